import {ask, events, key, read} from './api.js';
import {el, seconds, set} from './dom.js';
import {openRequest} from './requests.js';

// By protocol: its path, the body for an instruction and a message, and what an event or a whole answer says:
// [text, thought, usage].
const PROTOCOLS = {
  'Chat Completions': {
    path: 'chat/completions',
    body: (system, text) => ({messages: [...(system ? [{role: 'system', content: system}] : []), {role: 'user', content: text}], stream_options: {include_usage: true}}),
    piece: (event) => [event.choices?.[0]?.delta?.content, event.choices?.[0]?.delta?.reasoning_content, event.usage],
    whole: (answer) => [answer.choices?.[0]?.message?.content, answer.choices?.[0]?.message?.reasoning_content, answer.usage],
  },
  Responses: {
    path: 'responses',
    body: (system, text) => ({input: text, store: false, ...(system ? {instructions: system} : {})}),
    piece: (event) => [event.type === 'response.output_text.delta' ? event.delta : '', event.type === 'response.reasoning_summary_text.delta' ? event.delta : '', event.response?.usage],
    whole: (answer) => [answer.output?.flatMap((item) => item.content ?? []).map((part) => part.text ?? '').join(''), answer.output?.flatMap((item) => item.summary ?? []).map((part) => part.text).join('\n'), answer.usage],
  },
  Completions: {
    path: 'completions',
    body: (system, text) => ({prompt: system ? `${system}\n\n${text}` : text, stream_options: {include_usage: true}}),
    piece: (event) => [event.choices?.[0]?.text, '', event.usage],
    whole: (answer) => [answer.choices?.[0]?.text, '', answer.usage],
  },
};
const CLIENT_KEY = 'agproxy.client_key';

export function playground() {
  const protocol = el('select', {name: 'protocol'}, Object.keys(PROTOCOLS).map((name) => el('option', {}, name)));
  const names = el('datalist', {id: 'names'});
  const model = el('input', {name: 'model', list: 'names', value: 'gpt-4o', autocomplete: 'off', spellcheck: 'false', required: true});
  const system = el('input', {name: 'system', placeholder: 'none', autocomplete: 'off'});
  const text = el('textarea', {name: 'text', required: true}, 'Why is the sky blue? Answer in two sentences.');
  const stream = el('input', {type: 'checkbox', name: 'stream', checked: true});
  const client = el('input', {type: 'password', name: 'client', autocomplete: 'off', value: sessionStorage.getItem(CLIENT_KEY) ?? ''});
  const clientRow = el('label', {hidden: true}, 'Client key: the admin key opens the monitor only', client);
  const send = el('button', {class: 'primary'}, 'Send'), stop = el('button', {type: 'button', disabled: true, onclick: () => running?.abort()}, 'Stop');
  const thought = el('div', {class: 'thought', hidden: true, tabIndex: 0}), answer = el('pre', {class: 'answer', tabIndex: 0, 'aria-label': 'Answer'}, ''), facts = el('p', {class: 'dim told', role: 'status'}, 'The answer comes here.');
  const raw = el('pre', {tabIndex: 0}), link = el('button', {type: 'button', class: 'plain mono', hidden: true, onclick: () => openRequest(link.textContent)});
  const node = el('div', {class: 'grid halves'},
    el('form', {class: 'card stack', onsubmit: (event) => { event.preventDefault(); run(); }},
      el('h2', {}, 'Ask'), names, el('div', {class: 'row'}, el('label', {}, 'Protocol', protocol), el('label', {}, 'Model', model)),
      clientRow, el('label', {}, 'Instruction', system), el('label', {}, 'Message', text),
      el('div', {class: 'row'}, send, stop, el('label', {class: 'check'}, stream, 'As a stream'))),
    el('section', {class: 'card stack'}, el('h2', {}, 'Answer'), facts, thought, answer, link, el('details', {}, el('summary', {class: 'dim'}, 'As it came'), raw)));
  let running = null;

  async function run() {
    const how = PROTOCOLS[protocol.value], began = performance.now();
    const body = {model: model.value.trim(), stream: stream.checked, ...how.body(system.value.trim(), text.value)};
    if (!body.stream) delete body.stream_options;
    if (!clientRow.hidden) sessionStorage.setItem(CLIENT_KEY, client.value);
    running = new AbortController();
    send.disabled = !(stop.disabled = false);
    let first = null, usage = null, headers = null;
    for (const one of [thought, answer, raw]) one.replaceChildren();
    thought.hidden = link.hidden = true;
    set(facts, 'Waiting…');
    facts.className = 'dim told';
    const say = ([said, thinking, counted]) => {
      if (said || thinking) first ??= performance.now();
      if (said) answer.append(said);
      if (thinking) { thought.hidden = false; thought.append(thinking); }
      usage = counted ?? usage;
    };
    const tell = (end) => set(facts, [end, first && `first word ${seconds((first - began) / 1000)}`, `${seconds((performance.now() - began) / 1000)} in all`,
      usage && `${usage.prompt_tokens ?? usage.input_tokens} tokens in, ${usage.completion_tokens ?? usage.output_tokens} out`,
      headers?.get('x-mapped-model'), headers?.get('x-account-id'), headers?.get('x-agproxy-warnings')].filter(Boolean).join(' · '));
    try {
      const reply = await ask(how.path, {body, signal: running.signal, as: clientRow.hidden ? key() : client.value});
      headers = reply.headers;
      if (body.stream) {
        for await (const data of events(reply)) {
          raw.append(`${data}\n`);
          if (data === '[DONE]') continue;
          const event = JSON.parse(data);
          if (event.error || event.type === 'response.failed') throw new Error((event.error ?? event.response.error).message);
          say(how.piece(event));
        }
      } else {
        const whole = await reply.json();
        raw.append(JSON.stringify(whole, null, 2));
        say(how.whole(whole));
      }
      tell('done');
    } catch (error) {
      headers ??= error.headers ?? null;
      tell(error.name === 'AbortError' ? 'stopped' : error.status ? `${error.status}: ${error.message}` : error.message);
      if (error.name !== 'AbortError') facts.className = 'bad told';
    } finally {
      running = null;
      send.disabled = !(stop.disabled = true);
      const id = headers?.get('x-request-id');
      link.hidden = !id;
      set(link, id ?? '');
    }
  }

  async function open() {
    try {
      const [table, status] = await Promise.all([read('models'), read('status')]);
      names.replaceChildren(...table.data.filter((row) => !/[*(]/.test(row.name)).map((row) => el('option', {value: row.name}, row.model)));
      clientRow.hidden = !(status.has_admin_key && status.auth_mode !== 'off');
    } catch (error) {
      set(facts, error.message);
    }
  }
  return {name: 'Playground', node, open, show: () => {}};
}
