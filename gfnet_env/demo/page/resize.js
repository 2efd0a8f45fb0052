// Resizing as Pillow does it, to the last bit: in Python, the network sees the same pixels.

// Fixed-point bits of Pillow's weights.
const BITS = 22;

const FILTERS = {
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: {
    support: 2,
    weight(x) {
      const a = -0.5;
      const d = Math.abs(x);
      if (d < 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
      return d < 2 ? (((d - 5) * d + 8) * d - 4) * a : 0;
    },
  },
};

/** Pixels of a picture: RGB, row by row. */
export class Pixels {
  constructor(width, height, data = new Uint8Array(3 * width * height)) {
    Object.assign(this, { width, height, data });
  }

  /** The part between whole pixels. */
  crop(left, top, right, bottom) {
    const found = new Pixels(right - left, bottom - top);
    for (let y = top; y < bottom; y++) {
      const start = 3 * (y * this.width + left);
      found.data.set(this.data.subarray(start, start + 3 * found.width), 3 * (y - top) * found.width);
    }
    return found;
  }

  /** A part, whose borders may lie between pixels, at another size. */
  resize(width, height, interpolation, box = [0, 0, this.width, this.height]) {
    const [left, top, right, bottom] = box;
    const filter = FILTERS[interpolation];
    const across = weights(this.width, left, right, width, filter);
    const down = weights(this.height, top, bottom, height, filter);
    // The width first, rounded to eight bits, as in Pillow.
    const narrow = new Pixels(width, this.height);
    for (let y = 0; y < this.height; y++) {
      along(this.data, 3 * y * this.width, 3, narrow.data, 3 * y * width, 3, across);
    }
    const found = new Pixels(width, height);
    for (let x = 0; x < width; x++) {
      along(narrow.data, 3 * x, 3 * width, found.data, 3 * x, 3 * width, down);
    }
    return found;
  }

  /** For a canvas. */
  toImageData() {
    const image = new ImageData(this.width, this.height);
    for (let i = 0, j = 0; j < this.data.length; i += 4, j += 3) {
      image.data.set(this.data.subarray(j, j + 3), i);
      image.data[i + 3] = 255;
    }
    return image;
  }
}

/** What each pixel of a line of the result takes from the line that it is made of. */
function weights(size, from, to, count, filter) {
  const scale = (to - from) / count;
  const wide = Math.max(scale, 1);
  const support = filter.support * wide;
  return Array.from({ length: count }, (_, number) => {
    const centre = from + (number + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(size, Math.trunc(centre + support + 0.5));
    const found = [];
    for (let x = first; x < last; x++) found.push(filter.weight((x - centre + 0.5) / wide));
    const sum = found.reduce((one, other) => one + other, 0);
    const fixed = found.map((w) => {
      const share = sum === 0 ? w : w / sum;
      return Math.trunc(share * 2 ** BITS + (share < 0 ? -0.5 : 0.5));
    });
    return { first, fixed };
  });
}

/** Make one line, of `step` values from pixel to pixel, from another. */
function along(source, start, step, target, begin, stride, line) {
  line.forEach(({ first, fixed }, number) => {
    for (let channel = 0; channel < 3; channel++) {
      let sum = 2 ** (BITS - 1);
      let at = start + first * step + channel;
      for (const weight of fixed) {
        sum += source[at] * weight;
        at += step;
      }
      const value = Math.floor(sum / 2 ** BITS);
      target[begin + number * stride + channel] = Math.min(255, Math.max(0, value));
    }
  });
}
