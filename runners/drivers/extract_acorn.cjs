'use strict';
// Writes the parser that node carries (acorn) into a folder, for programs that cannot reach into node.  argv: FOLDER
// Run once by `node extract_acorn.cjs <runtimes>/node/lib` when the runtimes are unpacked; makes acorn.cjs there.
const fs = require('fs');
const path = require('path');

process.noDeprecation = true; // `natives` is the one public way to the texts of node's own modules
const text = process.binding('natives')['internal/deps/acorn/acorn/dist/acorn'];
const target = path.join(process.argv[2], 'acorn.cjs');
fs.writeFileSync(`${target}.new`, text, { mode: 0o644 });
fs.renameSync(`${target}.new`, target);
