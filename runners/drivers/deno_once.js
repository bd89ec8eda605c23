// Boots deno ahead of need, then runs one program as `deno run -A main.ts` would.  Request on descriptor 3.
// The program lies in the workspace only until deno has read it, unless it is to stay: its first import removes it, so
// relative imports, line numbers and `import.meta` are those of a file that nobody sees.  node:fs is not used: it would cost 30 ms of boot.
const CHANNEL = 3;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
const libc = Deno.dlopen('libc.so.6', {
  read: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' },
  write: { parameters: ['i32', 'buffer', 'usize'], result: 'isize' },
  close: { parameters: ['i32'], result: 'i32' },
  fcntl: { parameters: ['i32', 'i32', 'i32'], result: 'i32' },
  opendir: { parameters: ['buffer'], result: 'pointer' },
  readdir: { parameters: ['pointer'], result: 'pointer' },
  _exit: { parameters: ['i32'], result: 'void' },
});
const { read, write, close, fcntl, opendir, readdir, _exit } = libc.symbols;

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

function* names(wanted) {
  yield wanted;
  yield '.era_main.ts';
  yield `.era_main_${crypto.randomUUID()}.ts`;
}

/** Lays the program into a folder under its name, or under a hidden one where the name is taken. */
function lay(folder, name, code) {
  for (const candidate of names(name)) {
    try {
      Deno.writeTextFileSync(`${folder}/${candidate}`, code, { createNew: true });
      return `${folder}/${candidate}`;
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
  }
  throw new Error('no name is free for the program');
}

const moduleOf = (text) => `data:text/javascript,${encodeURIComponent(text)}`;

/** The address of a file. */
const urlOf = (file) => new URL(`file://${encodeURI(file)}`).href;

/** Loads a file that was laid, removes it unless it is to stay, then evaluates it. */
function evaluate(file, keep) {
  const begin = moduleOf(`Deno[Deno.internal].begin(); // ${file}`);
  const both = moduleOf(`import ${JSON.stringify(begin)}; import ${JSON.stringify(urlOf(file))};`);
  let isLoaded = false;
  const remove = () => keep || Deno.removeSync(file);
  Deno[Deno.internal].begin = () => {
    delete Deno[Deno.internal].begin;
    isLoaded = true;
    remove();
  };
  return import(both).catch((error) => {
    if (isLoaded) throw error;
    remove();
    return refuse(error);
  });
}

/** Ends a program that could not be loaded with the words that deno has for a main module. */
function refuse(error) {
  if (!(error instanceof TypeError)) throw error;
  Deno[Deno.internal].core.print(`error: ${error.message}\n`, true);
  return Deno.exit(1);
}

/**
 * Says 'D' when the program has ended well and left its folder empty, then ends without taking the engine down: that
 * would keep its result waiting.  Deno dispatches node's exit event as the very last thing that it runs, behind `unload`
 * and behind all microtasks, and looks its dispatcher up for that; node's own, if node is loaded, is called first.
 */
function promiseFarewell(cwd) {
  const { get: exitCode } = Object.getOwnPropertyDescriptor(Deno, 'exitCode');
  const [folder, word] = [`${cwd}\0`, 'D'].map((text) => new TextEncoder().encode(text));
  let dispatch;
  const isEmpty = () => {
    const stream = opendir(folder);
    return stream !== null && readdir(stream) !== null && readdir(stream) !== null && readdir(stream) === null;
  };
  const last = () => {
    dispatch?.();
    if (exitCode() === 0 && isEmpty() && write(CHANNEL, word, 1n) == 1) _exit(0);
  };
  Object.defineProperty(Deno[Deno.internal], 'dispatchProcessExitEvent', {
    // With listeners it is node's own, or a frame of ours would be in the stack of what they throw.
    get: () => (dispatch && globalThis.process?.listenerCount?.('exit') !== 0 ? dispatch : last),
    set: (own) => { dispatch = own; },
  });
}

/** What the first program would otherwise pay for: reading, compiling and evaluating a file, and printing. */
async function warm() {
  try {
    const code = 'const one: number = await 1; export { one };';
    const file = lay(Deno.env.get('DENO_DIR'), `warm-${Deno.pid}.ts`, code);
    await evaluate(file, false);
    new Deno[Deno.internal].Console(() => {}).log('%s', 'a', 1, { a: [1] });
  } catch { /* then the program pays */ }
}

function main() {
  const request = readRequest();
  const cwd = request.cwd ?? '/workspace';
  Deno.chdir(cwd);
  if (request.farewell && fcntl(CHANNEL, F_SETFD, FD_CLOEXEC) === 0) {
    promiseFarewell(cwd);
  } else {
    close(CHANNEL);
    libc.close();
  }
  for (const [name, value] of Object.entries(request.env ?? {})) Deno.env.set(name, value);
  Deno.args.length = 0;
  Deno.args.push(...(request.args ?? []));
  const code = asMain(request.code);
  const file = lay(cwd, request.file ?? 'main.ts', code);
  Object.defineProperty(Deno, 'mainModule', { value: urlOf(file), enumerable: true, configurable: true });
  const { dispatchEvent } = globalThis;
  evaluate(file, request.keep).then(() => dispatchEvent(new Event('load'))); // deno's own has begun this
}

await warm();
addEventListener('load', main, { once: true });
