// Boots deno ahead of need, then runs one program as `deno run -A main.ts` would.  Request on descriptor 3.
// The program lies in the workspace only until deno has read it: its first import removes it, so relative imports,
// line numbers and `import.meta` are those of a file that nobody sees.  node:fs is not used: it would cost 30 ms of boot.
const CHANNEL = 3;
const libc = Deno.dlopen('libc.so.6', {
  read: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' },
  close: { parameters: ['i32'], result: 'i32' },
});
const { read, close } = libc.symbols;

/** The request: 4 bytes of big-endian length, then JSON. A host that went away ends us. */
function readRequest() {
  const exactly = (size) => {
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size;) {
      const count = Number(read(CHANNEL, bytes.subarray(at), BigInt(size - at)));
      if (count <= 0) Deno.exit(0);
      at += count;
    }
    return bytes;
  };
  const size = new DataView(exactly(4).buffer).getUint32(0);
  return JSON.parse(new TextDecoder().decode(exactly(size)));
}

/** Makes the program look like the main module: deno says false for what was imported. */
function asMain(code) {
  if (!code.includes('import.meta.main')) return code;
  const at = code.startsWith('#!') ? code.indexOf('\n') + 1 : 0;
  return `${code.slice(0, at)}import.meta.main=true;${code.slice(at)}`;
}

/** Lays the program into the workspace under its name, or under a hidden one where the name is taken. */
function lay(cwd, name, code) {
  for (const candidate of [name, '.era_main.ts', `.era_main_${crypto.randomUUID()}.ts`]) {
    try {
      Deno.writeTextFileSync(`${cwd}/${candidate}`, code, { createNew: true });
      return `${cwd}/${candidate}`;
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
  }
  throw new Error('no name is free for the program');
}

const moduleOf = (text) => URL.createObjectURL(new Blob([text], { type: 'text/javascript' }));

const request = readRequest();
close(CHANNEL);
libc.close();
const cwd = request.cwd ?? '/workspace';
Deno.chdir(cwd);
for (const [name, value] of Object.entries(request.env ?? {})) Deno.env.set(name, value);
Deno.args.length = 0;
Deno.args.push(...(request.args ?? []));
const code = asMain(request.code);
const file = lay(cwd, request.file ?? 'main.ts', code);
const url = new URL(`file://${encodeURI(file)}`).href;
Object.defineProperty(Deno, 'mainModule', { value: url, enumerable: true, configurable: true });
const remover = moduleOf(`Deno.removeSync(${JSON.stringify(file)});`);
import(moduleOf(`import ${JSON.stringify(remover)}; import ${JSON.stringify(url)};`)).catch((error) => {
  try {
    if (Deno.readTextFileSync(file) === code) Deno.removeSync(file);
  } catch { /* it is gone already */ }
  throw error;
});
