// Grey levels of the CT, colours of dose, differences and structures.

export const WINDOWS = [
  ["Soft tissue", 40, 400],
  ["Bone", 400, 1800],
  ["Lung", -600, 1500],
  ["Brain", 40, 80],
  ["All", 250, 2500],
];

const MOST = 65536;

/** Grey of every HU, at HU + 32768. */
export function greys(level, width) {
  const table = new Uint8ClampedArray(MOST);
  for (let i = 0; i < MOST; i += 1) {
    table[i] = Math.round((255 * (i - 32768 - level + width / 2)) / width);
  }
  return table;
}

/** Colour of a share from 0 to 1: Turbo (A. Mikhailov), by its polynomials. */
export function turbo(share) {
  const x = Math.min(1, Math.max(0, share));
  const polynomial = (...factors) => factors.reduceRight((sum, factor) => sum * x + factor, 0);
  return [
    polynomial(0.13572138, 4.6153926, -42.66032258, 132.13108234, -152.94239396, 59.28637943),
    polynomial(0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604),
    polynomial(0.1066733, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973),
  ].map((channel) => Math.round(255 * Math.min(1, Math.max(0, channel))));
}

/** Colour of a difference from −1 to 1: blue below, red above. */
export function diverging(share) {
  const x = Math.min(1, Math.abs(share));
  const strong = share < 0 ? [33, 102, 222] : [214, 39, 40];
  return strong.map((channel) => Math.round(245 + (channel - 245) * Math.sqrt(x)));
}

export function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}

/**
 * Colours to lay over the CT, by value + `offset`; 0 where nothing is. Channels are multiplied by the opacity, so that
 * a pixel is their sum with the rest of the grey.
 */
export function washTable(size, offset, opacity, colourOf) {
  const table = new Uint32Array(size);
  for (let i = 0; i < size; i += 1) {
    const colour = colourOf(i - offset);
    if (colour) {
      const [red, green, blue] = colour.map((channel) => Math.floor(channel * opacity));
      table[i] = (blue << 16) | (green << 8) | red || 1;
    }
  }
  return table;
}

// Of a lightness that is seen on black, on the page's white and on its dark ground
const TARGETS = ["#e03177", "#b04ad8", "#7a63f0", "#d6487e"];
const ORGANS = [
  "#1c7ed6",
  "#2f9e44",
  "#e8590c",
  "#0c8f9e",
  "#a87d00",
  "#c2410c",
  "#5c7cfa",
  "#74800f",
  "#b0567c",
  "#0b8f6a",
  "#8a6d3b",
  "#6f8196",
];
const EXTERNAL = "#8a96a3";
const DARKEST = 0.13;
const LIGHTEST = 0.3;

function channels(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

function luminance(rgb) {
  const [red, green, blue] = rgb.map((channel) => {
    const share = channel / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** Lighten or darken a colour until it can be seen on light and on dark ground (WCAG: 3 to 1). */
export function readable(hex) {
  let rgb = channels(hex);
  for (let turn = 0; turn < 40 && luminance(rgb) < DARKEST; turn += 1) {
    rgb = rgb.map((channel) => channel + 0.06 * (255 - channel));
  }
  for (let turn = 0; turn < 40 && luminance(rgb) > LIGHTEST; turn += 1) {
    rgb = rgb.map((channel) => 0.95 * channel);
  }
  return `#${rgb.map((channel) => Math.round(channel).toString(16).padStart(2, "0")).join("")}`;
}

/** Colour of each structure: the study's own if they tell structures apart, else ours. */
export function structureColours(structures, own = {}) {
  const given = structures.map(({ name }) => own[name]).filter(Boolean);
  const theirs = given.length === structures.length && new Set(given).size === given.length;
  const used = { target: 0, oar: 0, external: 0 };
  const palettes = { target: TARGETS, oar: ORGANS, external: [EXTERNAL] };
  return Object.fromEntries(
    structures.map(({ name, kind }) => {
      const palette = palettes[kind];
      const ours = palette[used[kind]++ % palette.length];
      return [name, theirs ? readable(own[name]) : ours];
    }),
  );
}
