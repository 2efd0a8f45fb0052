// The exported network: one graph for the glance and one for each look, as the Python runner has them.

import * as ort from "./ort.wasm.min.mjs";
import { Pixels } from "./resize.js";

ort.env.wasm.numThreads = 1;

// No certainty reaches it, so the graphs always say where they would look next.
const NEVER = 2;

export class Network {
  static async open() {
    const found = new Network();
    const json = async (name) => (await fetch(name)).json();
    [found.settings, found.glance, found.focus] = await Promise.all([
      json("gfnet.json"),
      ort.InferenceSession.create("glance.onnx"),
      ort.InferenceSession.create("focus.onnx"),
    ]);
    return found;
  }

  get looks() {
    return this.settings.focus_steps;
  }

  /** A picture as in training. */
  bring(picture) {
    const { image_size: size, fit, crop } = this.settings;
    if (size === null || fit === "whole") return picture;
    const side = Math.trunc(size / crop);
    const { width, height } = picture;
    const least = Math.min(width, height);
    const [left, top] = [(width - least) / 2, (height - least) / 2];
    const box = fit === "crop" ? [left, top, left + least, top + least] : undefined;
    const square =
      width === side && height === side ? picture : picture.resize(side, side, "bicubic", box);
    const start = Math.trunc((side - size) / 2);
    return square.crop(start, start, start + size, start + size);
  }

  /** Throw an error for a picture that is smaller than what the network looks at. */
  check({ width, height }) {
    const least = Math.max(this.settings.patch_size, this.settings.glance_size);
    if (Math.min(width, height) < least) {
      throw new Error(
        `The picture has ${width}×${height} pixels; the network needs at least ${least}×${least}.`,
      );
    }
  }

  /** Whole pictures as a square. */
  overview(picture) {
    const { glance_size: side, interpolation, aspect } = this.settings;
    if (aspect !== "pad") return shaped(picture, side, side, interpolation);
    const longest = Math.max(picture.width, picture.height);
    const scale = side / longest;
    const [left, top] = [picture.width, picture.height].map((extent) =>
      even(Math.trunc((longest - extent) / 2) * scale),
    );
    const [width, height] = [picture.width, picture.height].map((extent) =>
      Math.max(1, even(extent * scale)),
    );
    const inner = shaped(picture, width, height, interpolation);
    const canvas = new Pixels(side, side);
    for (let y = 0; y < height; y++) {
      const row = inner.data.subarray(3 * y * width, 3 * (y + 1) * width);
      canvas.data.set(row, 3 * ((top + y) * side + left));
    }
    return canvas;
  }
}

/** What the network sees of one picture, step by step. */
export class Episode {
  constructor(network, picture) {
    Object.assign(this, { network, picture, steps: [], given: null });
  }

  get isOver() {
    const last = this.steps.at(-1);
    return last !== undefined && (last.stops || this.steps.length > this.network.looks);
  }

  /** Glance, or take the next look. */
  async look() {
    const { network, picture, given } = this;
    const { settings } = network;
    const [left, top, right, bottom] = given?.box ?? [0, 0, picture.width, picture.height];
    const side = settings.patch_size;
    const pixels = given
      ? shaped(picture.crop(left, top, right, bottom), side, side, settings.interpolation)
      : network.overview(picture);
    const session = given ? network.focus : network.glance;
    const size = BigInt64Array.of(BigInt(picture.height), BigInt(picture.width));
    const isLast = this.steps.length === network.looks;
    const known = {
      ...given?.tensors,
      pixels: new ort.Tensor("uint8", pixels.data, [1, pixels.height, pixels.width, 3]),
      size: new ort.Tensor("int64", size, [1, 2]),
      threshold: new ort.Tensor("float32", Float32Array.of(isLast ? -1 : NEVER), []),
    };
    const feeds = Object.fromEntries(session.inputNames.map((name) => [name, known[name]]));
    const found = await session.run(feeds);
    const next = Object.fromEntries(
      Object.entries(found).map(([name, tensor]) => [name.replace(/^next_/, ""), tensor]),
    );
    const probabilities = next.probabilities.data;
    const step = {
      pixels,
      box: [left, top, right, bottom],
      isGlance: !given,
      probabilities,
      best: probabilities.indexOf(Math.max(...probabilities)),
      certainty: next.certainty.data[0],
      cost: settings.multiply_adds[this.steps.length],
      stops: !isLast && Boolean(next.stop.data[0]),
    };
    if (step.stops) step.cost += settings.stop_multiply_adds;
    this.steps.push(step);
    if (!isLast && !step.stops) {
      const [nextTop, nextLeft, nextBottom, nextRight] = Array.from(next.box.data, Number);
      this.given = { tensors: next, box: [nextLeft, nextTop, nextRight, nextBottom] };
    }
    return step;
  }

  /** The step at which thresholds end it; null if that is not known yet. */
  exitStep(thresholds) {
    const step = this.steps.findIndex((each, number) => each.certainty >= thresholds[number]);
    if (step >= 0) return step;
    return this.isOver ? this.steps.length - 1 : null;
  }
}

function shaped(picture, width, height, interpolation) {
  if (picture.width === width && picture.height === height) return picture;
  return picture.resize(width, height, interpolation);
}

/** Round as Python does: halves to even numbers. */
function even(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}
