"use strict";

/* Shows pictures with one pixel of the picture on one pixel of the screen. */
class Stage {
  constructor(element) {
    this.element = element;
    this.images = [];
    this.side = 0;
    new ResizeObserver(() => this.place()).observe(element);
    this.watchRatio();
  }

  /* The ratio changes with the zoom, and where a window moves to another screen. */
  watchRatio() {
    const query = matchMedia(`(resolution: ${devicePixelRatio}dppx)`);
    query.addEventListener("change", () => { this.place(); this.watchRatio(); }, { once: true });
  }

  show(images, side) {
    this.images = images;
    this.side = side;
    this.element.replaceChildren(...images);
    this.place();
  }

  clear() {
    this.images = [];
    this.element.replaceChildren();
  }

  /* So many pixels of the screen are a whole number of CSS pixels. Off them a browser resamples. */
  get unit() {
    const ratio = devicePixelRatio;
    return ratio * ([1, 2, 3, 4, 5, 6, 7, 8].find((count) => Number.isInteger(count * ratio)) || 1);
  }

  /* From one picture of a pair to the other, in pixels of the screen. */
  get step() {
    return Math.ceil(1.0625 * this.side / this.unit) * this.unit;
  }

  /* The length of so many pictures, in CSS pixels. */
  whole(count) {
    return (this.side + (count - 1) * this.step) / devicePixelRatio;
  }

  get isStacked() {
    return this.images.length > 1 && this.whole(2) > this.element.clientWidth;
  }

  get columnsAndRows() {
    return this.images.length < 2 ? [1, 1] : this.isStacked ? [1, 2] : [2, 1];
  }

  /* Whether all of the pictures is to be seen. */
  get fits() {
    const [columns, rows] = this.columnsAndRows;
    return this.whole(columns) <= this.element.clientWidth && this.whole(rows) <= this.element.clientHeight;
  }

  place() {
    if (!this.images.length) return;
    const ratio = devicePixelRatio, unit = this.unit, step = this.step;
    const box = this.element.getBoundingClientRect();
    const [columns, rows] = this.columnsAndRows;
    const begin = (start, room, count) => Math.ceil((start + (room - this.whole(count)) / 2) * ratio / unit) * unit;
    const left = begin(box.left, box.width, columns), top = begin(box.top, box.height, rows);
    this.images.forEach((image, number) => {
      const x = left + (columns > 1 ? number * step : 0), y = top + (rows > 1 ? number * step : 0);
      // A transform is exact; left, top and width would be rounded to other pixels.
      image.style.width = image.style.height = `${this.side}px`;
      image.style.transform = `translate(${x / ratio}px, ${y / ratio}px) scale(${1 / ratio})`;
      image.style.visibility = this.fits ? "visible" : "hidden";
    });
    this.element.dispatchEvent(new Event("placed"));
  }
}
