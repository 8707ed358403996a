"use strict";
// The wiki's live side: who is here and the chat over a WebSocket, recent changes over server-sent events.

const people = document.getElementById("people");
const chat = document.getElementById("chat");
const feed = document.getElementById("feed");
const state = document.getElementById("live-state");
const words = document.getElementById("words");

let socket;
let pause = 500;

function connect() {
  socket = new WebSocket("wss://" + location.host + "/live");
  socket.onopen = () => { pause = 500; show("live", true); };
  socket.onmessage = (event) => receive(JSON.parse(event.data));
  socket.onclose = () => {
    people.replaceChildren();
    show("not connected", false);
    setTimeout(connect, pause);
    pause = Math.min(pause * 2, 15000);
  };
}

function show(text, open) {
  state.textContent = text;
  state.dataset.open = open ? "yes" : "no";
}

function receive(message) {
  if (message.kind === "here") {
    people.replaceChildren(...message.people.map((name) => element("li", name)));
    return;
  }
  const line = element("p", "");
  line.append(element("b", message.who), " ", message.text);
  chat.append(line);
  chat.scrollTop = chat.scrollHeight;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

document.getElementById("say")?.addEventListener("submit", (event) => {
  event.preventDefault();
  if (words.value.trim() === "" || socket?.readyState !== WebSocket.OPEN) return;
  socket.send(JSON.stringify({ text: words.value }));
  words.value = "";
});

if (people) {
  connect();
  const events = new EventSource("/events");
  events.addEventListener("change", (event) => {
    const change = JSON.parse(event.data);
    const item = element("li", "");
    const link = element("a", change.title);
    link.href = change.url;
    item.append(link, " by " + change.by + ", " + change.at);
    feed.prepend(item);
    while (feed.children.length > 8) feed.lastChild.remove();
  });
}
