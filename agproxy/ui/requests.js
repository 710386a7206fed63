import {read} from './api.js';
import {clock, count, el, seconds, set, statusClass, sync, table} from './dom.js';

const LIMIT = 50;
const labels = new Map();

export const learn = (accounts) => accounts.forEach((one) => labels.set(one.id, one.label));
// What its owner calls an account.
export const nameOf = (id) => labels.get(id) || id;

export function requests() {
  const errors = el('input', {type: 'checkbox', name: 'errors'}), own = el('input', {type: 'checkbox', name: 'all'});
  const model = el('input', {name: 'model', placeholder: 'gemini-*', autocomplete: 'off', spellcheck: 'false'});
  const client = el('input', {name: 'client', placeholder: "a key's name", autocomplete: 'off', spellcheck: 'false'});
  const account = el('select', {name: 'account'}, el('option', {value: ''}, 'any'));
  const list = table(['When', 'Status', 'Model', {text: 'Client', class: 'minor'}, {text: 'Tokens in / out', class: 'number minor'},
    {text: 'First byte', class: 'number minor'}, {text: 'In all', class: 'number'}, 'Account'], 'Requests');
  const nothing = el('p', {class: 'empty', role: 'status'}, 'Reading…'), from = el('span', {class: 'dim'});
  const older = el('button', {type: 'button', onclick: () => load(true)}, 'Older ones');
  const form = el('form', {class: 'card row ends', onsubmit: (event) => { event.preventDefault(); load(); }},
    el('label', {}, 'Model, * for anything', model), el('label', {}, 'Client', client), el('label', {}, 'Account', account),
    el('label', {class: 'check'}, errors, 'Errors only'), el('label', {class: 'check'}, own, "The gateway's own"),
    el('button', {}, 'Filter'));
  form.addEventListener('change', () => load());
  const node = el('div', {class: 'stack'}, form, el('section', {class: 'card stack'}, list.node, nothing,
    el('div', {class: 'row between'}, older, from)));
  let rows = [], asked = 0, answered = 0, seen = -1, isPaged = false, isDue = false;

  async function load(more = false) {
    const mine = ++asked;
    const query = new URLSearchParams({limit: LIMIT});
    for (const input of [model, client, account]) if (input.value.trim()) query.set(input.name, input.value.trim());
    for (const input of [errors, own]) if (input.checked) query.set(input.name, 'true');
    if (more && rows.length) query.set('before', rows.at(-1).number);
    try {
      const found = await read(`requests?${query}`);
      if (mine !== asked) return;
      isPaged = more;
      rows = more ? [...rows, ...found.data] : found.data;
      older.hidden = !found.has_more;
      set(from, found.source === 'memory' ? 'The journal is off: only the latest are remembered.' : `${rows.length} shown`);
      draw();
    } catch (error) {
      if (mine === asked) { nothing.hidden = false; set(nothing, error.message); }
    } finally {
      answered++;
    }
  }

  function draw() {
    nothing.hidden = rows.length > 0;
    list.node.hidden = !nothing.hidden;
    set(nothing, form.querySelector('input:checked') || model.value || client.value || account.value
      ? 'No request fits these filters.' : 'No request has ended yet. The playground can send one.');
    sync(list.body, rows, (row) => row.id, (row) => el('tr', {},
      el('td', {class: 'nowrap'}, el('button', {type: 'button', class: 'plain', title: row.id, onclick: () => openRequest(row.id)}, clock(row.at))),
      el('td', {class: `nowrap ${statusClass(row.status)}`}, String(row.status), row.error ? el('span', {class: 'minor'}, ` ${row.error}`) : null),
      el('td', {class: 'wide'}, row.model_asked || `${row.method} ${row.path}`,
        row.model && row.model !== row.model_asked ? el('span', {class: 'dim'}, ` → ${row.model}`) : null),
      el('td', {class: 'minor'}, row.client ?? el('span', {class: 'dim'}, 'no key')),
      el('td', {class: 'number minor'}, row.prompt_tokens || row.output_tokens ? `${count(row.prompt_tokens)} / ${count(row.output_tokens)}` : '–'),
      el('td', {class: 'number minor'}, seconds(row.first_byte_seconds)),
      el('td', {class: 'number'}, seconds(row.total_seconds)),
      el('td', {class: 'wide', title: row.account ?? ''}, nameOf(row.account) ?? '–', row.attempts > 1 ? el('span', {class: 'warn'}, ` after ${row.attempts} attempts`) : null)));
  }

  function show(now) {
    const known = [...account.options].map((option) => option.value);
    for (const one of now.accounts) if (!known.includes(one.id)) account.append(el('option', {value: one.id}, nameOf(one.id)));
    if (node.hidden || isPaged) return;
    if (answered < asked) return; // one look at a time, however long it takes
    const isNew = seen !== now.requests;
    if (isNew || isDue) load();
    isDue = isNew; // once more a second later: the journal writes a moment after the end
    seen = now.requests;
  }
  return {name: 'Requests', node, show, open: () => load()};
}

// --- one request

const EVENTS = {
  picked: (step) => `${step.account} was chosen`,
  answered: (step) => `${step.account} answered`,
  failed: (step) => `${step.account} failed with ${step.status} (${step.why}): ${step.message}`,
  nobody: () => 'no account could serve',
  waits: (step) => step.in_line === undefined ? `waits for an account, at most ${step.wait_seconds} s`
    : `waits in line behind ${step.in_line - 1}, at most ${step.wait_seconds} s`,
};

function words(step) {
  const skipped = (step.skipped ?? []).map((one) => `${one.account}: ${one.why}`).join('; ');
  return `${clock(step.at)} ${step.model}: ${(EVENTS[step.event] ?? (() => step.event))(step)}${skipped ? ` (passed by: ${skipped})` : ''}`;
}

function pretty(text) {
  try { return JSON.stringify(JSON.parse(text), null, 2); } catch { return text; }
}

function message(title, start, headers, body) {
  return el('section', {class: 'stack'}, el('h3', {}, title), el('div', {class: 'mono told'}, start),
    headers?.length ? el('details', {}, el('summary', {class: 'dim'}, `${headers.length} headers`),
      el('pre', {tabIndex: 0}, headers.map(([name, value]) => `${name}: ${value}`).join('\n'))) : null,
    body ? el('pre', {tabIndex: 0}, pretty(body)) : el('p', {class: 'dim'}, 'no body'));
}

function bodies(told) {
  if (!told) return el('p', {class: 'dim'}, 'Its bodies were not recorded: set journal_bodies to errors or all, and the next ones will have theirs.');
  const {request, answer} = told;
  const query = request.query ? `?${request.query}` : '';
  return el('div', {class: 'grid halves'},
    message('What the client sent', `${request.method} ${request.path}${query}`, request.headers, request.body),
    message('What the client was answered', String(answer.status || 'nothing'), answer.headers, answer.body),
    told.calls.flatMap((call, index) => [
      message(`Upstream request ${index + 1}, ${call.account}`, `${call.method} ${call.url}`, call.headers, call.body),
      message(`Upstream answer ${index + 1}`, `${call.status ?? 'none'} ${call.error ?? ''}`, call.answer_headers, call.answer)]));
}

function facts(one) {
  const told = [
    ['Began', `${new Date(one.at * 1000).toLocaleString()}, ${one.client ?? 'without a key'}`],
    ['Asked', `${one.method} ${one.path}${one.is_stream ? ', a stream' : ''}`],
    ['Status', one.is_running ? `under way for ${seconds(one.seconds)}` : `${one.status}${one.error ? ` ${one.error}: ${one.message}` : ''}`],
  ];
  if (one.model) told.push(['Model', one.model_asked === one.model ? one.model : `${one.model_asked} → ${one.model}`]);
  if (one.attempts) told.push(['Account', `${one.account}, ${one.attempts} upstream call${one.attempts > 1 ? 's' : ''}${one.outcomes?.length ? `, failed: ${one.outcomes.join(', ')}` : ''}`]);
  if (one.prompt_tokens || one.output_tokens) told.push(['Tokens', `${one.prompt_tokens} in (${one.cached_tokens} cached), ${one.output_tokens} out (${one.reasoning_tokens} thinking)`]);
  if (!one.is_running) told.push(['Time', `${seconds(one.total_seconds)} in all, first byte ${seconds(one.first_byte_seconds)}${one.waited_seconds ? `, ${seconds(one.waited_seconds)} waiting` : ''}`]);
  if (one.trace) told.push(['Trace', one.trace]);
  for (const notice of one.notices ?? []) told.push(['Warning', notice]);
  return el('dl', {}, told.flatMap(([name, value]) => [el('dt', {}, name), el('dd', {}, value)]));
}

export async function openRequest(id) {
  const dialog = document.getElementById('detail');
  const content = el('div', {class: 'stack'}, el('p', {class: 'empty'}, 'Reading…'));
  dialog.replaceChildren(el('div', {class: 'inside'},
    el('div', {class: 'row between'}, el('h2', {class: 'mono'}, id), el('button', {type: 'button', onclick: () => dialog.close()}, 'Close')), content));
  if (!dialog.open) dialog.showModal();
  try {
    const one = await read(`requests/${encodeURIComponent(id)}`);
    content.replaceChildren(facts(one), el('h2', {}, 'What was decided'),
      one.steps.length ? el('ol', {class: 'steps'}, one.steps.map((step) => el('li', {}, words(step)))) : el('p', {class: 'dim'}, 'It came to no account.'),
      el('h2', {}, 'Bodies'), one.is_running ? el('p', {class: 'dim'}, 'They are shown when it has ended.') : bodies(one.recording));
  } catch (error) {
    content.replaceChildren(el('p', {class: 'bad'}, error.message));
  }
}
