// CT, dose and masks of a job, as typed arrays.

import { call, getJson } from "../api.js";

/** Fetch an array that is compressed by gzip, and tell how much of it is there. */
async function loadArray(path, Type, length, signal, progress) {
  const answer = await call(path, { accept: "application/gzip", signal });
  const reader = answer.body.pipeThrough(new DecompressionStream("gzip")).getReader();
  const bytes = new Uint8Array(length * Type.BYTES_PER_ELEMENT);
  let received = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    bytes.set(part.value, received);
    received += part.value.length;
    progress(received / bytes.length);
  }
  return new Type(bytes.buffer);
}

function maskBytes(structures) {
  const ends = structures
    .filter((structure) => structure.box)
    .map(({ box, offset }) => offset + Math.ceil(box.reduce((voxels, [first, end]) => voxels * (end - first), 1) / 8));
  return Math.max(0, ...ends);
}

/** Load all that is drawn; `progress` gets the share of the CT, the largest part. */
export async function loadView(path, signal, progress) {
  const info = await getJson(path, { signal });
  const voxels = info.shape.reduce((product, count) => product * count, 1);
  const silent = () => {};
  const [ct, dose, masks, reference] = await Promise.all([
    loadArray(`${path}/ct`, Int16Array, voxels, signal, progress),
    loadArray(`${path}/dose`, Uint16Array, voxels, signal, silent),
    loadArray(`${path}/structures`, Uint8Array, maskBytes(info.structures), signal, silent),
    info.has_reference ? loadArray(`${path}/reference`, Uint16Array, voxels, signal, silent) : null,
  ]);
  return { info, ct, dose, masks, reference };
}

/** Whether a voxel [slice, row, column] lies in a structure. */
export function isInside(masks, { box, offset }, voxel) {
  if (!box || voxel.some((index, axis) => index < box[axis][0] || index >= box[axis][1])) {
    return false;
  }
  const [z, y, x] = voxel.map((index, axis) => index - box[axis][0]);
  const rows = box[1][1] - box[1][0];
  const columns = box[2][1] - box[2][0];
  const bit = (z * rows + y) * columns + x;
  return Boolean((masks[offset + (bit >> 3)] >> (bit & 7)) & 1);
}
