"use strict";

/* Cards of text: what raters read and fill in before, between and after the pictures. */

function element(name, content = [], properties = {}) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...[content].flat());
  return made;
}

/* A card of text. Resolves with the text of the button that was pressed. */
function card(title, content, buttons) {
  $("trial").hidden = true;
  const heading = element("h1", title, { tabIndex: -1 });
  return new Promise((pressed) => {
    const row = buttons.map((text, number) => {
      const button = element("button", text, { type: "button", className: number ? "" : "main" });
      button.addEventListener("click", () => pressed(text));
      return button;
    });
    $("screen").replaceChildren(
      element("div", [heading, ...content, element("div", row, { className: "actions" })], { className: "card" }));
    heading.focus({ preventScroll: true });
  });
}

function scaleList() {
  const rows = SCALE.map((word, number) => element("li", [element("b", String(number + 1)), word]));
  return element("ul", rows.reverse(), { className: "scale" });
}

async function welcome() {
  const minutes = Math.max(1, Math.round(study.trials.length * (isPairs() ? 10 : 8) / 60));
  const task = isPairs()
    ? "You see two pictures at a time and say which one looks better."
    : "You see one picture at a time and say how good its quality looks, from 1 to 5.";
  await card("How good do these pictures look?", [
    element("p", `${task} It takes about ${minutes} minutes. You can stop at any time, and go on later in this browser.`),
    element("p", "Your answers and their times are kept under a random name, with the kind and the size of your screen and the light in your room. Nothing else about you is asked for or kept."),
  ], ["Start"]);
}

function choice(name, title, options, size = "") {
  const rows = options.map(([value, text]) =>
    element("label", [element("input", [], { type: "radio", name, value, required: true }), text]));
  return element("fieldset", [element("legend", title), element("div", rows, { className: `options ${size}` })]);
}

async function askDisplay() {
  const plate = element("div", [...Array(16).keys()].map((step) => {
    const part = element("span");
    part.style.background = `rgb(${step * 17}, ${step * 17}, ${step * 17})`;
    return part;
  }), { className: "plate", role: "img", ariaLabel: "16 steps of grey, from black to white" });
  const form = element("form", [
    choice("screen", "Your screen", [["phone", "Phone"], ["tablet", "Tablet"], ["laptop", "Laptop"], ["monitor", "Monitor, up to 24 inch"], ["large", "Larger screen"]]),
    choice("light", "The light in your room", [["dark", "Dark"], ["dim", "Dim, or lamps"], ["bright", "Bright daylight"], ["sun", "Sun on the screen"]]),
    plate,
    choice("steps", "How many of the 16 steps can you tell apart?", [["all", "All of them"], ["dark", "Not the darkest ones"], ["light", "Not the lightest ones"], ["both", "Neither of them"]], "wide"),
  ]);
  const note = element("p", "", { className: "problem", role: "status" });
  for (;;) {
    await card("Your screen and your room", [
      element("p", "Set the screen to its usual brightness, without a night mode, and sit as you usually do."),
      form, note], ["Continue"]);
    const found = Object.fromEntries(new FormData(form));
    if (Object.keys(found).length === 3) {
      return { ...found, ratio: devicePixelRatio, width: screen.width, height: screen.height };
    }
    note.textContent = "Please answer all three.";
  }
}

async function explain() {
  const keys = isPairs() ? "the arrow keys" : "the keys 1 to 5";
  await card("What to do", [
    element("p", isPairs()
      ? "Choose the picture that looks better to you. If both look alike, choose by feeling."
      : "Say how good the quality of each picture looks to you. Do not judge what it shows."),
    ...(isPairs() ? [] : [scaleList()]),
    element("p", `Press a button below the picture, or use ${keys}. If a picture asks for an answer, please give that answer.`),
    element("p", "The first pictures are examples. They tell you what to answer."),
  ], ["Show the examples"]);
}
