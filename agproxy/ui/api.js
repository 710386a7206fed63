// What this page reads: same server only, the key in a header, never in a URL.

const KEY = 'agproxy.key';
// The page is at .../ui, the API beside it.
const BASE = new URL('v1/', new URL('.', location.href));

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// A link may bring the key behind #, which no server sees; it is taken out of the address bar at once.
export function takeKey() {
  const found = /^#key=(.*)$/.exec(location.hash);
  if (!found) return;
  let key = found[1];
  try { key = decodeURIComponent(key); } catch { /* a key with a bare % */ }
  keepKey(key);
  history.replaceState(null, '', location.pathname);
}

export const key = () => sessionStorage.getItem(KEY) ?? '';
export const keepKey = (value) => value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY);

// One request below /v1. Raises Refused for an answer that is an error, TypeError where there is no server.
export async function ask(path, {body, signal, as = key()} = {}) {
  const headers = as ? {authorization: `Bearer ${as}`} : {};
  if (body !== undefined) headers['content-type'] = 'application/json';
  const method = body === undefined ? 'GET' : 'POST';
  const text = body === undefined ? undefined : JSON.stringify(body);
  const answer = await fetch(new URL(path, BASE), {method, headers, body: text, signal, cache: 'no-store', credentials: 'omit'});
  if (answer.ok) return answer;
  let message = `The server answered ${answer.status}.`;
  try { message = (await answer.json()).error.message; } catch { /* no JSON */ }
  throw Object.assign(new Refused(answer.status, message), {headers: answer.headers});
}

export const read = async (path, options) => (await ask(`agproxy/${path}`, options)).json();

// The data of each event of a stream, by way of fetch: EventSource sends no headers.
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  try {
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      text += value;
      const parts = text.split(/\r?\n\r?\n/);
      text = parts.pop();
      for (const part of parts) {
        const data = part.split(/\r?\n/).filter((line) => line.startsWith('data:')).map((line) => line.slice(5).trimStart());
        if (data.length) yield data.join('\n');
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
