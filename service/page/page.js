// The playground: a history, a request, an answer. Each recommendation is asked for anew.

import * as api from "./api.js";
import * as view from "./view.js";

const HISTORY_SHOWN = 200;
const FOUND_SHOWN = 8;
const SEARCH_PAUSE_MS = 150;

const state = {
  user: "", // whose stored history is shown; "" for a guest, whose history lives in this page
  items: [], // the history, oldest first
  kept: null, // tokens kept by item id, from the last answer
  tokensPerItem: 0,
  asked: 0, // requests sent; an answer that is not the newest one's is dropped
};

const $ = (id) => document.getElementById(id);

async function start() {
  $("user-form").addEventListener("submit", submitted(() => loadUser($("user").value.trim())));
  $("options").addEventListener("submit", submitted(recommend));
  $("key-form").addEventListener("submit", submitted(useKey));
  $("search").addEventListener("input", searchSoon);
  $("search").addEventListener("keydown", searchKey);
  $("user").value = new URLSearchParams(location.search).get("user") || "";
  await attempt(begin);
}

async function begin() {
  const { body: info } = await api.getInfo();
  showModel(info);
  await loadUser($("user").value.trim());
}

function showModel({ model, limits }) {
  const items = model.num_items.toLocaleString("en");
  $("model").textContent = `${model.name} · ${items} items · ${model.device}, ${model.dtype}`;
  $("beam").max = limits.max_beam_width;
  $("limit").max = limits.max_limit;
  const named = model.retention_ratios.map((ratio) => view.h("option", { value: ratio }, percent(ratio)));
  $("ratio").replaceChildren($("ratio").options[0], ...named);
}

function percent(ratio) {
  return ratio === 1 ? "all" : `${Math.round(100 * ratio)} %`;
}

async function loadUser(user) {
  state.user = user;
  state.kept = null;
  const stored = user ? (await api.getHistory(user, HISTORY_SHOWN)).body : { items: [], num_items: 0 };
  state.items = stored.items;
  const more = stored.num_items - stored.items.length;
  $("history-note").textContent = user
    ? `${stored.num_items} items in the store${more > 0 ? `, the newest ${stored.items.length} shown` : ""}. What you add is stored.`
    : "A guest: the history is in this page only.";
  const url = new URL(location.href);
  if (user) url.searchParams.set("user", user);
  else url.searchParams.delete("user");
  window.history.replaceState(null, "", url);
  showHistory();
  await recommend();
}

// Of a stored user an event, of a guest a line in this page; then the next recommendation.
async function take(item) {
  if (state.user) {
    await api.postEvent(state.user, item.item_id);
    await loadUser(state.user);
    return;
  }
  state.items = [...state.items, item];
  showHistory();
  await recommend();
}

async function remove(place) {
  state.items = state.items.filter((_, n) => n !== place);
  showHistory();
  await recommend();
}

function showHistory() {
  const lines = state.items.map((item, place) =>
    view.historyLine(
      item,
      state.kept ? state.kept.get(item.item_id) || 0 : undefined,
      state.tokensPerItem,
      state.user ? null : () => attempt(() => remove(place)),
    ),
  );
  $("history").replaceChildren(...lines.reverse());
}

function request() {
  const who = state.user ? { user_id: state.user } : { history: state.items.map((item) => item.item_id) };
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  const where = $("where").value.trim();
  return {
    ...who,
    limit: number("limit"),
    beam_width: number("beam"),
    retention_ratio: number("ratio"),
    exclude_seen: $("seen").checked ? false : undefined,
    filter: where ? { where } : undefined,
    diversity: number("diversity") ? { max_items: number("diversity") } : undefined,
    explain: true,
  };
}

async function recommend() {
  const number = ++state.asked;
  const asked = request();
  $("answer-title").parentElement.setAttribute("aria-busy", "true");
  try {
    const { body: answer, timing } = await api.recommend(asked);
    if (number === state.asked) showAnswer(answer, timing, asked);
  } finally {
    $("answer-title").parentElement.removeAttribute("aria-busy");
  }
}

function showAnswer(answer, timing, asked) {
  const best = Math.max(...answer.items.map((item) => item.score ?? -Infinity));
  const lines = answer.items.map((item) => view.itemLine(item, best, () => attempt(() => take(item))));
  $("items").replaceChildren(...lines);
  $("badges").replaceChildren(...view.badges(answer));
  $("timing").replaceChildren(view.timingBar(timing));
  $("curl").textContent = api.curl({ ...asked, explain: undefined });
  $("curl-box").hidden = false;
  const explained = answer.explanation;
  state.kept = explained ? new Map(explained.kept_history.map((item) => [item.item_id, item.num_tokens])) : null;
  const sid = answer.items.find((item) => item.sid)?.sid;
  state.tokensPerItem = sid ? sid.length : 0;
  showHistory();
}

let searchTimer;

function searchSoon() {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(() => attempt(search), SEARCH_PAUSE_MS);
}

async function search() {
  const text = $("search").value.trim();
  if (!text) return showFound([]);
  const { body } = await api.findItems(text, FOUND_SHOWN);
  if (text === $("search").value.trim()) showFound(body.items);
}

function showFound(items) {
  const lines = items.map((item) => {
    const choose = () => {
      $("search").value = "";
      showFound([]);
      attempt(() => take(item));
    };
    return view.h("li", { role: "option", tabindex: "0", onclick: choose, onkeydown: (event) => foundKey(event, choose) }, view.nameOf(item));
  });
  $("found").replaceChildren(...lines);
  $("found").hidden = !lines.length;
  $("search").setAttribute("aria-expanded", String(lines.length > 0));
}

function searchKey(event) {
  if (event.key === "ArrowDown") $("found").firstElementChild?.focus();
  else if (event.key === "Enter") $("found").firstElementChild?.click();
  else if (event.key === "Escape") showFound([]);
}

function foundKey(event, choose) {
  const { currentTarget: line } = event;
  if (event.key === "Enter") choose();
  else if (event.key === "ArrowDown") line.nextElementSibling?.focus();
  else if (event.key === "ArrowUp") (line.previousElementSibling || $("search")).focus();
  else if (event.key === "Escape") showFound([]), $("search").focus();
  else return;
  event.preventDefault();
}

async function useKey() {
  api.keepKey($("key").value.trim());
  await begin();
  $("key-form").hidden = true;
}

function submitted(action) {
  return (event) => {
    event.preventDefault();
    attempt(action);
  };
}

// Do it, and say what went wrong if something does.
async function attempt(action) {
  $("problem").hidden = true;
  try {
    await action();
  } catch (error) {
    if (!(error instanceof api.Problem)) throw error;
    $("problem").replaceChildren(...view.problemText(error.problem));
    $("problem").hidden = false;
    if (error.problem.status === 401) {
      $("key-form").hidden = false;
      $("key").focus();
    }
  }
}

start();
