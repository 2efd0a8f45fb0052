// The page: choose a picture, watch the network look at it, change what it may spend.

import { Episode, Network } from "./network.js";
import { Pixels } from "./resize.js";

const page = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]),
);
const percent = (share) => `${(100 * share).toFixed(1)}%`;
const millions = (cost) => `${(cost / 1e6).toFixed(1)} M`;

let network;
let budgets = [];
let episode = null;
// Looks that were asked for beyond the exit.
let more = 0;
// Counts pictures, so that an earlier one that is still being looked at does not show.
let current = 0;

async function start() {
  const about = await (await fetch("demo.json")).json();
  network = await Network.open();
  budgets = about.budgets;
  page["budget-row"].hidden = budgets.length < 2;
  page.budget.max = Math.max(budgets.length - 1, 0);
  page.budget.value = about.budget;
  page.budget.addEventListener("input", update);
  page.more.addEventListener("click", () => {
    more += 1;
    update();
  });
  for (const example of about.examples) addExample(example);
  page.file.addEventListener("change", () => open(page.file.files[0]));
  for (const name of ["dragover", "dragleave", "drop"]) {
    page.drop.addEventListener(name, (event) => {
      event.preventDefault();
      page.drop.classList.toggle("over", name === "dragover");
      if (name === "drop") open(event.dataTransfer.files[0]);
    });
  }
  page.answer.textContent = "Choose a picture.";
  page.examples.querySelector("button")?.click();
}

function addExample({ file, label }) {
  const button = document.createElement("button");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  const image = document.createElement("img");
  Object.assign(image, { src: file, alt: `Example: ${label}` });
  button.append(image);
  button.addEventListener("click", async () => {
    open(await (await fetch(file)).blob(), button);
  });
  page.examples.append(button);
}

async function open(blob, chosen = null) {
  if (!blob) return;
  current += 1;
  const own = current;
  for (const button of page.examples.children) {
    button.setAttribute("aria-pressed", button === chosen);
  }
  page.error.hidden = true;
  try {
    const picture = network.bring(await decode(blob));
    network.check(picture);
    if (own !== current) return;
    episode = new Episode(network, picture);
    more = 0;
    await update();
  } catch (error) {
    page.error.textContent = error.message;
    page.error.hidden = false;
  }
}

async function decode(blob) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw new Error("This file is no picture that the browser can read.");
  }
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const pixels = new Pixels(bitmap.width, bitmap.height);
  for (let i = 0, j = 0; i < rgba.length; i += 4, j += 3) {
    pixels.data[j] = rgba[i];
    pixels.data[j + 1] = rgba[i + 1];
    pixels.data[j + 2] = rgba[i + 2];
  }
  return pixels;
}

let running = Promise.resolve();

/** Look as long as the budget asks for, then show it; one after the other. */
function update() {
  running = running.then(look).catch((error) => {
    page.error.textContent = `The network failed: ${error.message}`;
    page.error.hidden = false;
  });
  return running;
}

async function look() {
  const shown = episode;
  if (!shown) return;
  const thresholds = budgets[page.budget.value]?.thresholds ?? network.settings.thresholds;
  while (shown.exitStep(thresholds) === null) await shown.look();
  const exit = shown.exitStep(thresholds);
  while (shown.steps.length <= exit + more && !shown.isOver) await shown.look();
  if (shown === episode) show(exit);
}

function show(exit) {
  const last = Math.min(exit + more, episode.steps.length - 1);
  const { best, probabilities } = episode.steps[last];
  const looks = ["at the glance", "after 1 look"][last] ?? `after ${last} looks`;
  const name = network.settings.class_names[best];
  page.answer.textContent = `${name}, ${percent(probabilities[best])} sure ${looks}`;
  Object.assign(page.answer.dataset, { class: best, step: last });
  page.more.disabled = last + 1 >= episode.steps.length && episode.isOver;
  showBudget();
  showCost(episode.steps[last].cost);
  drawPicture(last);
  page.steps.replaceChildren(
    ...episode.steps.slice(0, last + 1).map((step, number) => item(step, number, number > exit)),
  );
}

function showBudget() {
  const point = budgets[page.budget.value];
  if (!point) return;
  const text = `${millions(point.multiply_adds)} multiply-adds a picture on average`;
  page["budget-text"].textContent = `${text}: ${percent(point.accuracy)} right on validation pictures`;
  page.budget.setAttribute("aria-valuetext", text);
}

function showCost(cost) {
  const { multiply_adds: costs, patch_size: side } = network.settings;
  const { width, height } = episode.picture;
  // The encoder of windows on all pixels.
  const whole = ((costs[1] - costs[0]) * width * height) / side ** 2;
  page.spent.value = Math.min(1, cost / whole);
  page["cost-text"].textContent =
    `${millions(cost)} multiply-adds, ${percent(cost / whole)} of what all ${width}×${height} ` +
    "pixels would take";
}

function drawPicture(last) {
  const { picture, steps } = episode;
  const canvas = page.picture;
  Object.assign(canvas, { width: picture.width, height: picture.height });
  const context = canvas.getContext("2d");
  context.putImageData(picture.toImageData(), 0, 0);
  const line = Math.max(1, Math.max(picture.width, picture.height) / 220);
  const windows = steps.slice(1, last + 1);
  windows.forEach(({ box: [left, top, right, bottom] }, number) => {
    for (const [width, colour] of [[2 * line, "#000"], [line, "#ffd400"]]) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.strokeRect(left, top, right - left, bottom - top);
    }
    context.font = `${12 * line}px sans-serif`;
    context.lineWidth = 2 * line;
    context.strokeStyle = "#000";
    context.fillStyle = "#ffd400";
    context.strokeText(number + 1, left + 2 * line, top + 12 * line);
    context.fillText(number + 1, left + 2 * line, top + 12 * line);
  });
  const places = windows.map(
    ({ box: [left, top] }, number) => `look ${number + 1} at ${left} right, ${top} down`,
  );
  canvas.setAttribute("aria-label", ["The picture", ...places].join("; "));
}

function item({ pixels, isGlance, best, probabilities, cost }, number, isBeyond) {
  const entry = document.createElement("li");
  entry.classList.toggle("beyond", isBeyond);
  const title = isGlance ? "Glance" : `Look ${number}`;
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: pixels.width, height: pixels.height });
  canvas.getContext("2d").putImageData(pixels.toImageData(), 0, 0);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", isGlance ? "The whole picture, small" : `Window ${number}`);
  const meter = document.createElement("meter");
  Object.assign(meter, { min: 0, max: 1, value: probabilities[best] });
  const name = network.settings.class_names[best];
  const text = `${title}: ${name}, ${percent(probabilities[best])}`;
  meter.setAttribute("aria-label", "Confidence");
  const spent = document.createElement("span");
  spent.textContent = `${millions(cost)} so far${isBeyond ? ", beyond the exit" : ""}`;
  entry.append(canvas, text, meter, spent);
  return entry;
}

start().catch((error) => {
  page.answer.textContent = "";
  page.error.textContent = `The network cannot be loaded: ${error.message}`;
  page.error.hidden = false;
});
