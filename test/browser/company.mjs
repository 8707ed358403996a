// What people of a company do whose provider is oidc-provider: sessions that expire, sign-out at the provider, second
// factors, tokens, and everything that goes wrong on the way. The apps are those of company_test.go.
import assert from "node:assert/strict";
import { heading, signIn } from "./lib.mjs";

const enough = 15000; // milliseconds for what is promised within five seconds, on a machine that is busy

// opened is a page on which somebody came to what they wanted.
async function opened(stage, person, label, path, name = "ada") {
  const page = await person.newPage();
  await page.goto(stage.origin(label) + path);
  await signIn(page, name);
  await heading(page, path);
  assert.equal(page.url(), stage.origin(label) + path);
  return page;
}

// live opens a WebSocket in a page and waits until it speaks. What becomes of it is in window.gone.
async function live(page) {
  assert.equal(await page.evaluate(() => new Promise((done) => {
    const socket = new WebSocket("/socket");
    window.gone = new Promise((closed) => { socket.onclose = (event) => closed(event.code); });
    socket.onopen = () => socket.send("ahoy");
    socket.onmessage = (message) => done(message.data);
    socket.onerror = () => done("error");
  })), "ahoy");
}

// oneWayOn checks that a page has one thing to do, and does it.
async function oneWayOn(stage, page, name) {
  const ways = page.locator("main .actions a, main .actions button");
  assert.equal(await ways.count(), 1, `${name}: ${await ways.allInnerTexts()}`);
  await stage.picture(page, name);
  await ways.click();
}

// expiredTabs: ten tabs, each with a deep link of its own, are opened at once after the session expired.
export async function expiredTabs(stage) {
  const person = await stage.person();
  const first = await opened(stage, person, "wiki", "/first");
  await stage.tell("expire");
  const began = Date.now();
  await Promise.all(Array.from({ length: 10 }, async (_, n) => {
    const label = n % 2 ? "wiki" : "public";
    const page = await person.newPage();
    await page.goto(`${stage.origin(label)}/deep/${n}?q=${n}`);
    await heading(page, `/deep/${n}`);
    assert.equal(page.url(), `${stage.origin(label)}/deep/${n}?q=${n}`);
  }));
  await first.reload();
  await heading(first, "/first");
  return { milliseconds: Date.now() - began };
}

// keptForm: a form that was sent just after the session expired is offered for sending again, to the same person.
export async function keptForm(stage) {
  const person = await stage.person();
  const page = await opened(stage, person, "wiki", "/form");
  await page.getByLabel("Text").fill("an hour's work");
  await stage.tell("expire");
  await page.getByRole("button", { name: "Send" }).click();
  await heading(page, "You are not signed in any more");
  await oneWayOn(stage, page, "form-kept");
  await heading(page, "Send it to wiki?"); // no picture: the session is a short one
  await page.getByRole("button", { name: "Send" }).click();
  await heading(page, "taken: an hour's work");
  return { posts: Number(await stage.tell("posts")) };
}

// providerSignOut: somebody signs out at the provider, and every app of that browser ends with its open streams.
export async function providerSignOut(stage) {
  const person = await stage.person();
  const wiki = await opened(stage, person, "wiki", "/one");
  const other = await person.newPage();
  await other.goto(stage.origin("public") + "/two");
  await heading(other, "/two");
  await live(wiki);
  const provider = await person.newPage();
  await provider.goto(stage.settings.provider + "/session/end");
  await provider.getByRole("button", { name: "Sign out" }).click();
  const at = Date.now();
  const code = await wiki.evaluate(() => window.gone);
  const felt = Date.now() - at;
  assert.equal(code, 1008, "the WebSocket ends for a policy's sake");
  assert.ok(felt < enough, `the WebSocket lived ${felt} ms`);
  for (const page of [wiki, other]) {
    await page.reload();
    await heading(page, "Sign in");
  }
  return { milliseconds: felt };
}

// revokedSocket: an operator ends somebody's sessions while a WebSocket is open.
export async function revokedSocket(stage) {
  const person = await stage.person();
  const page = await opened(stage, person, "wiki", "/live");
  await live(page);
  await stage.tell("revoke", "ada@corp.test");
  const at = Date.now();
  assert.equal(await page.evaluate(() => window.gone), 1008);
  const felt = Date.now() - at;
  assert.ok(felt < enough, `the WebSocket lived ${felt} ms`);
  return { milliseconds: felt };
}

// fetches: what a page's script is told when the session is over, at its own origin and at another that admits it.
export async function fetches(stage) {
  const person = await stage.person();
  const page = await opened(stage, person, "wiki", "/page");
  const other = await person.newPage();
  await other.goto(stage.origin("public") + "/x");
  await heading(other, "/x");
  const ask = (address, options) => page.evaluate(async ([address, options]) => {
    const answer = await fetch(address, options);
    return { status: answer.status, redirected: answer.redirected, type: answer.type, error: (await answer.json().catch(() => ({}))).error ?? "" };
  }, [address, options]);
  const before = [await ask("/api/own", {}), await ask(stage.origin("public") + "/api/other", { credentials: "include" })];
  await stage.tell("revoke", "ada@corp.test");
  const after = [
    await ask("/api/own", {}),
    await ask("/api/own", { method: "POST", body: "x" }),
    await ask(stage.origin("public") + "/api/other", { credentials: "include" }),
    await ask(stage.origin("public") + "/api/other", { method: "PUT", body: "{}", headers: { "Content-Type": "application/json" }, credentials: "include" }),
  ];
  return { before, after };
}

// stepUp: an app of high sensitivity sends people to the provider for a second factor and back to the page they asked for.
export async function stepUp(stage) {
  const person = await stage.person();
  const wiki = await opened(stage, person, "wiki", "/page");
  const page = await person.newPage();
  await page.goto(stage.origin("payroll") + "/salaries/11?of=all");
  await heading(page, "Sign in");
  assert.equal(new URL(page.url()).origin, stage.settings.provider, "the provider asks");
  await page.getByLabel("Code").fill("123456");
  await signIn(page, "ada");
  await heading(page, "/salaries/11");
  assert.equal(page.url(), stage.origin("payroll") + "/salaries/11?of=all");
  await page.goto(stage.origin("payroll") + "/next");
  await heading(page, "/next");
  await wiki.reload();
  await heading(wiki, "/page");
  const weak = await stage.person(); // who has no second factor at hand
  const refused = await opened(stage, weak, "wiki", "/page", "ben");
  await refused.goto(stage.origin("payroll") + "/salaries/12");
  await heading(refused, "Sign in");
  await signIn(refused, "ben");
  await refused.locator("main .actions").waitFor();
  await stage.picture(refused, "assurance-unmet");
  assert.ok(!refused.url().startsWith(stage.origin("payroll")), "nobody is let in by half");
  await refused.goto(stage.origin("wiki") + "/page");
  await heading(refused, "/page");
}

// devices: the portal shows where somebody is signed in, and ends it there.
export async function devices(stage) {
  await stage.tell("revoke", "ada@corp.test"); // whom earlier stories left signed in
  const here = await stage.person();
  const there = await stage.person();
  const lost = await opened(stage, there, "wiki", "/elsewhere");
  const page = await opened(stage, here, "wiki", "/here");
  await live(lost);
  await page.goto(stage.origin("auth") + "/.sallyport/sessions");
  await heading(page, "Where you are signed in");
  await stage.picture(page, "sessions");
  const others = page.locator("li.card", { hasNot: page.getByText("This browser") });
  assert.equal(await others.count(), 1);
  await others.getByRole("button", { name: /^End this session/ }).click();
  await page.getByRole("status").waitFor();
  assert.equal(await others.count(), 0);
  assert.equal(await lost.evaluate(() => window.gone), 1008);
  await lost.reload();
  await heading(lost, "/elsewhere"); // the provider knows them still, and asks nothing
  await page.goto(stage.origin("wiki") + "/here");
  await heading(page, "/here");
}

// tokens: somebody makes a token for a program, which works with it until they revoke it.
export async function tokens(stage) {
  const person = await stage.person();
  const page = await opened(stage, person, "wiki", "/page");
  await page.goto(stage.origin("auth") + "/.sallyport/tokens");
  await stage.picture(page, "tokens-none");
  await page.getByLabel("Name", { exact: true }).fill("nightly backup");
  await page.getByRole("checkbox", { name: "wiki" }).check();
  await page.getByLabel("Read only").check();
  await page.getByRole("button", { name: "Make the token" }).click();
  const secret = (await page.locator("#secret").innerText()).trim();
  await stage.picture(page, "tokens-made");
  assert.equal(await stage.tell("call", secret), "200");
  await page.goto(stage.origin("auth") + "/.sallyport/tokens");
  assert.ok(!(await page.content()).includes(secret), "the token is shown once");
  await page.getByRole("button", { name: "Revoke nightly backup" }).click();
  await page.getByRole("status").waitFor();
  const at = Date.now();
  while ((await stage.tell("call", secret)) !== "401") assert.ok(Date.now() - at < enough, "the revoked token works");
  await stage.picture(page, "tokens-revoked");
}

// annoyances: everything that goes wrong on the way in has a page with one button, and the button leads on.
export async function annoyances(stage) {
  const person = await stage.person();
  const page = await person.newPage();
  const callbacks = [];
  page.on("request", (request) => { if (request.url().includes("/callback/")) callbacks.push(request.url()); });
  await page.goto(stage.origin("wiki") + "/start");
  await signIn(page, "ada");
  await heading(page, "/start");

  await page.goto(stage.origin("wiki") + "/next");
  await heading(page, "/next");
  await page.goBack(); // over the sign-in's redirects, which are no pages
  await heading(page, "/start");
  await page.goBack(); // the provider's form, which was sent
  await page.goForward();
  await heading(page, "/start");

  await page.goto(callbacks[0]); // a bookmark
  await oneWayOn(stage, page, "callback-bookmarked");
  await page.waitForURL((url) => url.origin === stage.origin("auth") || url.origin === stage.origin("wiki"));

  const stale = await (await stage.person()).newPage(); // who starts, and whose cookies are gone when they come back
  await stale.goto(stage.origin("wiki") + "/late");
  await heading(stale, "Sign in");
  await stale.context().clearCookies({ domain: /corp\.test$/ });
  await signIn(stale, "ada");
  await oneWayOn(stage, stale, "state-lost");
  await stale.waitForURL((url) => url.pathname === "/" || url.pathname === "/late");

  const blocked = await stage.cookieless();
  try {
    const page = await blocked.newPage();
    await page.goto(stage.origin("wiki") + "/");
    await page.locator("h1").first().waitFor(); // the provider's: it needs cookies, too, and says so itself
    await page.goto(callbacks[0]);
    const ways = page.locator("main .actions a, main .actions button");
    assert.equal(await ways.count(), 1);
    assert.ok((await page.locator("main").innerText()).includes("cookies"), "nobody says that it is the cookies");
    await stage.picture(page, "cookies-blocked");
  } finally {
    await blocked.close();
  }
}
