// Asks for pictures and status, one request of each at a time, and says how old what it shows is, on its own clock.
//
// The age that is shown is the most it can be: the age when the drone answered, all of the way there and back, and what
// has gone by since. So it rises when the loop, the server or the link stops.

import {decode, draw} from "/picture.js";
import {addEvents, part, seconds, show} from "/panels.js";

const OLD = 1.5; // seconds beyond which a picture is called old, where the drone's limit is no longer than that
const SILENT = 3; // seconds without an answer after which the link counts as lost
const find = (id) => document.getElementById(id);
const clock = () => performance.now() / 1000;

let shown = null; // {head, picture, age, at}
let known = null; // the last answer of /api/status, and when: {answer, at}
let heard = null; // when anything was answered
let isRefused = false;

async function ask(address, patience) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), 1000 * patience);
  const sent = clock();
  try {
    const answer = await fetch(address, {signal: stop.signal, cache: "no-store", credentials: "same-origin"});
    isRefused = answer.status === 401;
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const body = answer.status === 204 ? null : await answer.arrayBuffer();
    const took = clock() - sent - Number(answer.headers.get("X-Held") || 0);
    heard = clock();
    return {body, took};
  } finally {
    clearTimeout(timer);
  }
}

const pause = (time) => new Promise((go) => setTimeout(go, 1000 * time));

async function watchPictures() {
  for (;;) {
    try {
      if (document.hidden) {
        await pause(0.3);
        continue;
      }
      const {body, took} = await ask(`/api/frame?after=${shown ? shown.head.number : 0}`, 20);
      if (body) {
        const at = clock();
        const message = await decode(body);
        if (shown && shown.picture) shown.picture.close();
        shown = {...message, age: message.head.age + took, at};
        paint();
      }
    } catch {
      await pause(1);
    }
  }
}

async function watchStatus() {
  let after = 0, run = "";
  for (;;) {
    try {
      if (!document.hidden) {
        const {body} = await ask(`/api/status?after=${after}&run=${run}`, 20);
        const answer = JSON.parse(new TextDecoder().decode(body));
        if (answer.run !== run) {
          run = answer.run;
          after = 0;
          find("events").replaceChildren();
        }
        addEvents(answer.events);
        for (const one of answer.events) after = Math.max(after, one.number);
        known = {answer, at: clock()};
        show(answer);
      }
    } catch {
      // said by the banner, once it lasts
    }
    await pause(1);
  }
}

function paint() {
  if (!shown) return;
  const count = draw(find("picture"), shown, find("boxes").value);
  find("picture").dataset.boxes = count;
  find("picture").dataset.number = shown.head.number;
}

/** Ten times a second: the age, and whether what is shown can be taken for now. */
function tick() {
  const now = clock();
  const age = shown ? shown.age + now - shown.at : null;
  const trouble = troubleNow(now, age);
  find("age").textContent = age === null ? "no picture yet" : `at most ${seconds(age)} old`;
  find("age").className = trouble ? "is-old" : "";
  find("age").dataset.seconds = age === null ? "" : age.toFixed(2);
  find("stage").className = trouble ? "is-old" : "";
  find("banner").hidden = !trouble;
  if (trouble) {
    find("banner-title").textContent = trouble[0];
    find("banner-text").textContent = trouble[1];
  }
  const [word, level] = stateNow(trouble);
  find("state").textContent = word;
  find("state").dataset.level = level;
  note();
}

/** What is wrong, worst first, as [title, text]; null where the picture is of now. */
function troubleNow(now, age) {
  const old = age === null ? "" : `The picture is ${seconds(age)} old.`;
  if (isRefused) return ["Token refused", "Open the link with the drone's token again."];
  if (heard === null) return now > SILENT ? ["No answer from the drone", ""] : null;
  if (now - heard > SILENT) return [`No answer for ${seconds(now - heard)}`, `The drone or the link to it is silent. ${old}`];
  const newest = known && known.answer.page.newest;
  if (newest && newest.published_ago + now - known.at > SILENT) {
    return [`Nothing seen for ${seconds(newest.published_ago + now - known.at)}`, `The loop publishes nothing. ${old}`];
  }
  if (!shown) return null;
  if (age > Math.max(OLD, shown.head.limit)) return [`OLD: ${seconds(age)}`, "This is not what the drone sees now."];
  if (!shown.head.is_current) {
    return ["TOO LATE", `It was ${seconds(shown.head.published_age)} old when it was published; the limit is ${seconds(shown.head.limit)}.`];
  }
  return null;
}

function stateNow(trouble) {
  if (trouble) return [trouble[0], "bad"];
  if (!shown) return [heard === null ? "connecting" : "waiting for a frame", "none"];
  const health = known ? part(known.answer.status, "heat") : {};
  return health.level > 0 ? ["live, with limits", "warn"] : ["live", "good"];
}

function note() {
  const isOff = shown && !shown.head.has_picture;
  const health = known ? part(known.answer.status, "heat") : {};
  find("note").hidden = !isOff;
  if (isOff) find("note").textContent = `Pictures are switched off on the drone to save heat${health.reason ? ` (${health.reason})` : ""}; boxes go on.`;
}

find("boxes").addEventListener("change", paint);
window.addEventListener("resize", paint);
setInterval(tick, 100);
watchPictures();
watchStatus();
