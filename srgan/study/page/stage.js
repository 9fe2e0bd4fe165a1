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

  get isStacked() {
    return this.images.length > 1 && 2.125 * this.side / devicePixelRatio > this.element.clientWidth;
  }

  /* Whether all of the pictures is to be seen. */
  get fits() {
    const length = this.side / devicePixelRatio;
    const [wide, high] = this.images.length < 2 ? [1, 1] : this.isStacked ? [1, 2.125] : [2.125, 1];
    return wide * length <= this.element.clientWidth && high * length <= this.element.clientHeight;
  }

  place() {
    if (!this.images.length) return;
    const ratio = devicePixelRatio;
    const box = this.element.getBoundingClientRect();
    const gap = Math.round(this.side / 8);
    const [columns, rows] = this.images.length < 2 ? [1, 1] : this.isStacked ? [1, 2] : [2, 1];
    const whole = (count) => count * this.side + (count - 1) * gap; // in pixels of the screen
    const left = Math.round((box.left + box.width / 2) * ratio - whole(columns) / 2);
    const top = Math.round((box.top + box.height / 2) * ratio - whole(rows) / 2);
    this.images.forEach((image, number) => {
      const step = number * (this.side + gap);
      const x = left + (columns > 1 ? step : 0), y = top + (rows > 1 ? step : 0);
      // A transform is exact; left, top and width would be rounded to other pixels.
      image.style.width = image.style.height = `${this.side}px`;
      image.style.transform = `translate(${x / ratio}px, ${y / ratio}px) scale(${1 / ratio})`;
      image.style.visibility = this.fits ? "visible" : "hidden";
    });
    this.element.dispatchEvent(new Event("placed"));
  }
}
