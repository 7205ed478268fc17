// From what was dropped or chosen to a flat list of files.

function isWanted(file) {
  return !file.name.startsWith(".") && file.name !== "Thumbs.db" && file.size > 0;
}

async function entriesOf(folder) {
  const reader = folder.createReader();
  const all = [];
  // A reader hands out a hundred at a time
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) {
      return all;
    }
    all.push(...some);
  }
}

async function filesBelow(entry) {
  if (entry.isFile) {
    return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  }
  const below = [];
  for (const child of await entriesOf(entry)) {
    below.push(...(await filesBelow(child)));
  }
  return below;
}

/** Files of a drop, also those in folders. */
export async function droppedFiles(transfer) {
  // All entries must be taken before the first await: the transfer is empty afterwards
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = entries.length ? (await Promise.all(entries.map(filesBelow))).flat() : [...transfer.files];
  return files.filter(isWanted);
}

/** Files of a file dialog. */
export function chosenFiles(input) {
  return [...input.files].filter(isWanted);
}
