// The monitor page: its views, the key, and the live stream that feeds them.
import {accounts} from './accounts.js';
import {ask, events, keepKey, key, takeKey} from './api.js';
import {el, set, span} from './dom.js';
import {models, settings} from './models.js';
import {overview} from './overview.js';
import {playground} from './playground.js';
import {learn, requests} from './requests.js';

const SILENCE_MS = 6000, LONGEST_WAIT_SECONDS = 8;
const $ = (id) => document.getElementById(id);
const views = [overview(), requests(), accounts(), models(), playground(), settings()];
const slug = (view) => view.name.toLowerCase();
let current = null, isOpen = false, isOver = false, wake = () => {};

// --- views

for (const view of views) {
  view.tab = el('button', {type: 'button', role: 'tab', id: `tab-${slug(view)}`, 'aria-controls': slug(view), onclick: () => choose(view)}, view.name);
  view.node.id = slug(view);
  view.node.setAttribute('role', 'tabpanel');
  view.node.setAttribute('aria-labelledby', view.tab.id);
  view.node.hidden = true;
  $('tabs').append(view.tab);
  $('main').append(view.node);
}
$('tabs').addEventListener('keydown', (event) => {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  if (!step) return;
  choose(views[(views.indexOf(current) + step + views.length) % views.length]);
  current.tab.focus();
});

function choose(view) {
  current = view;
  history.replaceState(null, '', `#${slug(view)}`);
  for (const one of views) {
    one.node.hidden = !isOpen || one !== view;
    one.tab.setAttribute('aria-selected', one === view);
    one.tab.tabIndex = one === view ? 0 : -1;
  }
  view.tab.scrollIntoView({block: 'nearest', inline: 'nearest'});
  if (isOpen) view.open?.();
}

function showDoor(why) {
  isOpen = false;
  $('ask').hidden = false;
  set($('why'), why);
  for (const view of views) view.node.hidden = true;
  $('tabs').hidden = true;
  $('forget').hidden = true;
  $('detail').close();
  $('key').focus();
}

function showViews() {
  isOpen = true;
  $('ask').hidden = true;
  $('tabs').hidden = false;
  $('forget').hidden = !key();
  choose(current);
}

function tellLink(text, look) {
  set($('link'), text);
  $('link').className = `pill ${look}`;
}

// --- the key

$('ask').addEventListener('submit', (event) => {
  event.preventDefault();
  keepKey($('key').value.trim());
  $('key').value = '';
  wake();
});
$('forget').addEventListener('click', () => { keepKey(''); location.reload(); });

// --- the live stream

const sleep = (milliseconds) => new Promise((resolve) => { wake = resolve; if (milliseconds) setTimeout(resolve, milliseconds); });

async function listen() {
  const stop = new AbortController();
  let silence = setTimeout(() => stop.abort(), SILENCE_MS);
  try {
    const answer = await ask('agproxy/live', {signal: stop.signal});
    for await (const data of events(answer)) {
      clearTimeout(silence);
      silence = setTimeout(() => stop.abort(), SILENCE_MS);
      const now = JSON.parse(data);
      if (!isOpen) showViews();
      tellLink('live', 'good');
      set($('about'), `${now.version}, up for ${span(now.uptime_seconds)}`);
      $('problem').hidden = !now.problem;
      set($('problem'), now.problem ?? '');
      learn(now.accounts);
      for (const view of views) view.show(now);
    }
  } finally {
    clearTimeout(silence);
  }
}

async function run() {
  let wait = 1;
  while (!isOver) {
    const began = Date.now();
    try {
      await listen();
      tellLink('reconnecting', 'warn'); // the stream has ended in order: another process may go on at once
      wait = 1;
      await sleep(300);
      continue;
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        tellLink('closed', 'bad');
        showDoor(error.status === 401 && key() ? `The server does not take this key. ${error.message}` : error.message);
        await sleep(0);
        continue;
      }
    }
    if (isOver) return;
    wait = Date.now() - began > 10000 ? 1 : Math.min(wait * 2, LONGEST_WAIT_SECONDS);
    $('problem').hidden = false;
    set($('problem'), 'The server does not answer. What is shown is as it was; the page tries again by itself.');
    tellLink('reconnecting', 'warn');
    await sleep(wait * 1000);
  }
}

addEventListener('pagehide', () => { isOver = true; });
addEventListener('pageshow', (event) => { if (event.persisted) location.reload(); });
takeKey();
current = views.find((view) => `#${slug(view)}` === location.hash) ?? views[0];
run();
