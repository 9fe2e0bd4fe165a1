"use strict";

const SCALE = ["Bad", "Poor", "Fair", "Good", "Excellent"];
const GREY_MS = 400; // between two pictures, so that one does not linger on the other
const AHEAD = 4; // pictures that are loaded before their turn
const LONGEST_MS = 3600000;

const $ = (id) => document.getElementById(id);
const own = $("study");
const source = own ? new OwnFile(JSON.parse(own.textContent)) : new Server();
const stage = new Stage($("stage"));
const header = document.querySelector("header");
const loaded = new Map(); // trial -> promise of its pictures
let study, answers, display;
let current = null; // { trial, shown } while a picture waits for its answer

const sleep = (ms) => new Promise((done) => { setTimeout(done, ms); });
const isPairs = () => study.mode === "pairs";

/* Tries until it works; every failure is told, with a button to try again. */
async function persist(title, action) {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      const why = error instanceof TypeError ? "There is no connection to the study." : error.message;
      await card(title, [element("p", why, { className: "problem" })], ["Try again"]);
    }
  }
}

const tell = (text) => { if ($("status").textContent !== text) $("status").textContent = text; };

function showProgress() {
  const total = study.trials.length;
  const done = study.trials.filter((_, trial) => answers.has(trial)).length;
  Object.assign($("progress"), { max: total, value: done });
  $("count").textContent = `${done} of ${total}`;
  const late = answers.unsent.length;
  if (late > 1) tell(`${late} answers wait for the connection`);
  else if (!answers.isKept) tell("This browser keeps nothing: please do not reload");
  else if (!late) tell("");
}

function buildAnswers() {
  const texts = isPairs() ? ["Left", "Right"] : SCALE;
  $("answers").replaceChildren(...texts.map((text, number) => {
    const parts = isPairs() ? [element("b", text)] : [element("b", String(number + 1)), element("span", text)];
    const button = element("button", parts, { type: "button", disabled: true });
    button.setAttribute("aria-keyshortcuts", isPairs() ? ["ArrowLeft", "ArrowRight"][number] : String(number + 1));
    button.addEventListener("click", () => answer(isPairs() ? number : number + 1));
    return button;
  }));
}

const buttonOf = (value) => $("answers").children[isPairs() ? value : value - 1];

function enable(isOn) {
  for (const button of $("answers").children) button.disabled = !isOn;
}

/* Names of the sides, and whether the window has room for the pictures. */
function afterPlacing() {
  if (!study || !current) return;
  if (isPairs()) {
    sides().forEach((text, number) => { buttonOf(number).firstChild.textContent = text; });
  }
  stage.element.querySelector(".small")?.remove();
  if (!stage.fits) {
    stage.element.append(element("div", element("p", "There is not enough room for the picture, which must not be shrunk. Please make the window larger, or turn the phone.", { className: "card" }), { className: "small" }));
  }
  enable(stage.fits);
}

const sides = () => (stage.isStacked ? ["Upper", "Lower"] : ["Left", "Right"]);

function question(example) {
  if (isPairs()) {
    return example === undefined
      ? "Which picture looks better?"
      : `Example: the ${sides()[example].toLowerCase()} one looks better. Please choose it.`;
  }
  return example === undefined
    ? "How good does this picture look?"
    : `Example: this is a ${example} (${SCALE[example - 1].toLowerCase()}). Please press ${example}.`;
}

function answer(value) {
  const button = buttonOf(value);
  if (!current || !button || button.disabled) return;
  const { trial, shown, done } = current;
  const { example } = study.trials[trial];
  if (example !== undefined && value !== example) {
    $("spoken").textContent = $("question").textContent;
    return;
  }
  current = null;
  enable(false);
  button.classList.add("pressed");
  const milliseconds = Math.min(LONGEST_MS, Math.round(performance.now() - shown));
  answers.add(trial, value, milliseconds);
  showProgress();
  done();
}

function load(trial) {
  if (trial >= study.trials.length || answers.has(trial)) return Promise.resolve([]);
  if (!loaded.has(trial)) {
    const places = isPairs() ? [0, 1] : [0];
    const pictures = Promise.all(places.map(async (place) => {
      const image = new Image();
      image.src = await source.picture(trial, place);
      await image.decode();
      if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
      image.draggable = false;
      return image;
    }));
    pictures.catch(() => loaded.delete(trial));
    loaded.set(trial, pictures);
  }
  return loaded.get(trial);
}

async function loadAhead(trial) {
  try {
    for (let next = trial + 1; next <= trial + AHEAD; next += 1) await load(next);
  } catch (error) {
    console.info(`loaded later: ${error.message}`);
  }
}

async function pictures(trial) {
  for (let wait = 1; ; wait = Math.min(8, 2 * wait)) {
    try {
      return await load(trial);
    } catch (error) {
      console.info(`no picture yet: ${error.message}`);
      tell("Waiting for the connection");
      await sleep(1000 * wait);
    }
  }
}

async function show(trial) {
  const { example } = study.trials[trial];
  $("screen").replaceChildren();
  $("trial").hidden = false;
  stage.clear();
  const images = await pictures(trial);
  tell("");
  images.forEach((image, number) => {
    const side = isPairs() ? `${["First", "Second"][number]} picture` : "Picture";
    image.alt = `${side} of question ${trial + 1} of ${study.trials.length}`;
  });
  for (const button of $("answers").children) button.classList.remove("pressed", "wanted");
  if (example !== undefined) buttonOf(example).classList.add("wanted");
  stage.show(images, study.side);
  $("question").classList.toggle("example", example !== undefined);
  $("question").textContent = question(example);
  await new Promise((painted) => { requestAnimationFrame(() => requestAnimationFrame(painted)); });
  const answered = new Promise((done) => { current = { trial, shown: performance.now(), done }; });
  afterPlacing();
  $("answers").focus({ preventScroll: true }); // a button that was disabled has lost it
  $("spoken").textContent = `${images[0].alt}. ${$("question").textContent}`;
  loadAhead(trial);
  await answered;
  await sleep(GREY_MS / 4); // the pressed button is seen
  stage.clear();
  loaded.delete(trial);
  await sleep(GREY_MS);
}

async function finish() {
  const isOwn = !source.send;
  const update = () => {
    const late = answers.unsent.length;
    state.textContent = isOwn
      ? "Please save your answers and send the file to the person who invited you."
      : late ? `${late} answers are not sent yet. They go as soon as there is a connection: please leave this page open, or save them as a file and send it to the person who invited you.`
        : "All your answers have arrived. You can close this page.";
  };
  const state = element("p", "", { role: "status" });
  answers.changed = () => { showProgress(); update(); };
  update();
  for (;;) {
    const name = element("p", `Your random name in this study: ${study.rater}`);
    await card("Thank you", [state, name], ["Save my answers"]);
    const file = new Blob([answers.asFile(display || null)], { type: "application/json" });
    const link = element("a", [], { href: URL.createObjectURL(file), download: `ratings-${study.rater}.json` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
}

async function main() {
  study = await persist("The study does not open", () => source.open());
  const isNew = !study.rater;
  if (isNew) {
    await welcome();
    study = await persist("The study does not begin", () => source.join());
  }
  answers = new Answers(study, source.send, showProgress);
  answers.flush();
  display = study.display;
  if (!study.hasDisplay) {
    display = await askDisplay();
    await persist("Not sent yet", () => source.tell(display, study.rater));
  }
  buildAnswers();
  const count = study.trials.length;
  const isLeft = (trial) => !answers.has(trial);
  let next = study.trials.findIndex((_, trial) => isLeft(trial));
  if (next === 0) await explain();
  else if (next > 0) {
    loadAhead(next - 1);
    await card("Welcome back", [element("p", `You have answered ${next} of ${count} questions.`)], ["Continue"]);
  }
  showProgress();
  header.hidden = false;
  for (let before = next; next >= 0 && next < count; before = next, next += 1) {
    if (!isLeft(next)) continue;
    const [now, last] = [study.trials[next], study.trials[before]];
    if (now.session > last.session) {
      await card("Time for a break", [element("p", "Please look away from the screen for a few minutes. You can also close this page and come back later.")], ["Continue"]);
    } else if (last.example !== undefined && now.example === undefined) {
      await card("Now it is your turn", [element("p", "There is no right or wrong now: say what you see.")], ["Continue"]);
    }
    await show(next);
  }
  await finish();
}

document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || !current) return;
  const arrows = { ArrowLeft: 0, ArrowUp: 0, ArrowRight: 1, ArrowDown: 1, 1: 0, 2: 1 };
  const value = isPairs() ? arrows[event.key] : Number(event.key);
  if (value === undefined || !(isPairs() || (value >= 1 && value <= 5))) return;
  event.preventDefault();
  answer(value);
});
stage.element.addEventListener("placed", afterPlacing);
main();
