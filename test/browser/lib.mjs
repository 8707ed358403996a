// What every scenario uses: a browser that trusts the demo's CA, pages that report what goes wrong in them, pictures, and
// the accessibility check.
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const here = path.dirname(fileURLToPath(import.meta.url));
const axe = readFileSync(path.join(here, "node_modules/axe-core/axe.min.js"), "utf8");

// patience is how long anything on a page may take, in milliseconds: pages are slow where a machine is busy.
export const patience = 60000;

// Stage is one scenario's browser. Everything that a page should not do is collected and fails the scenario at its end.
export class Stage {
  constructor(browser, settings) {
    this.browser = browser;
    this.settings = settings;
    this.complaints = [];
  }

  static async open(settings) {
    const options = Stage.options(settings);
    return new Stage(await chromium.launch(options), settings);
  }

  static options(settings) {
    const args = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync", "--hide-scrollbars"];
    if (settings.domain) args.push(`--host-resolver-rules=MAP *.${settings.domain} 127.0.0.1`);
    return {
      executablePath: settings.chromium,
      chromiumSandbox: process.getuid() !== 0, // Chromium's own sandbox does not run as root
      args,
      env: { ...process.env, HOME: settings.home },
      timeout: 2 * patience,
    };
  }

  // person is a browser profile of its own: nobody is signed in.
  async person(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1100, height: 780 }, ...options });
    context.setDefaultTimeout(patience);
    context.on("page", (page) => this.watch(page));
    return context;
  }

  // cookieless is a browser whose owner blocks all cookies.
  async cookieless() {
    const profile = mkdtempSync(path.join(tmpdir(), "sp-cookieless-"));
    mkdirSync(path.join(profile, "Default"));
    writeFileSync(path.join(profile, "Default", "Preferences"), JSON.stringify({ profile: { default_content_setting_values: { cookies: 2 } } }));
    const context = await chromium.launchPersistentContext(profile, { ...Stage.options(this.settings), viewport: { width: 1100, height: 780 } });
    context.setDefaultTimeout(patience);
    process.on("exit", () => rmSync(profile, { recursive: true, force: true })); // not before: the browser still writes to it
    return context;
  }

  // tell has the Go test do something outside of the browser, and returns what it says.
  async tell(what, argument = "") {
    const answer = await fetch(`${this.settings.control}/${what}`, { method: "POST", body: argument });
    const text = await answer.text();
    assert.equal(answer.status, 200, `${what}: ${text}`);
    return text;
  }

  watch(page) {
    page.on("pageerror", (error) => this.complaints.push(`${page.url()}: script error: ${error.message}`));
    page.on("console", (message) => {
      if (/Content Security Policy|Refused to/.test(message.text())) this.complaints.push(`${page.url()}: ${message.text()}`);
    });
  }

  origin(name) { return `https://${name}.${this.settings.domain ?? "sallyport.localhost"}:${this.settings.port}`; }

  // picture saves what the page looks like, light and dark, and checks both for accessibility and small screens.
  async picture(page, name) {
    for (const scheme of ["light", "dark"]) {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
      await page.screenshot({ path: path.join(this.settings.screenshots, `${name}-${scheme}.png`), fullPage: true });
      await this.accessible(page, `${name} (${scheme})`);
    }
    await page.emulateMedia({ colorScheme: null });
    const size = page.viewportSize();
    await page.setViewportSize({ width: 320, height: 640 });
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    await page.screenshot({ path: path.join(this.settings.screenshots, `${name}-narrow.png`), fullPage: true });
    await page.setViewportSize(size);
    assert.ok(width <= 320, `${name} is ${width} pixels wide on a screen of 320`);
  }

  // accessible fails on what axe calls serious or critical. It runs in a world of its own, which no page's policy stops.
  async accessible(page, name) {
    const session = await page.context().newCDPSession(page);
    try {
      const { frameTree } = await session.send("Page.getFrameTree");
      const { executionContextId } = await session.send("Page.createIsolatedWorld", { frameId: frameTree.frame.id, worldName: "axe" });
      const run = async (expression) => {
        const { result, exceptionDetails } = await session.send("Runtime.evaluate", { expression, contextId: executionContextId, awaitPromise: true, returnByValue: true });
        assert.ok(!exceptionDetails, `axe on ${name}: ${exceptionDetails?.exception?.description}`);
        return result.value;
      };
      await run(axe + "; true");
      const found = await run(`axe.run(document, { resultTypes: ["violations"] }).then((r) => ({ checked: r.passes.length,
        bad: r.violations.filter((v) => v.impact === "serious" || v.impact === "critical")
          .map((v) => v.id + ": " + v.help + " " + v.nodes.map((n) => n.target.join(" ")).join(", ")) }))`);
      assert.ok(found.checked > 5, `axe checked next to nothing on ${name}`);
      assert.deepEqual(found.bad, [], `accessibility of ${name}`);
    } finally {
      await session.detach();
    }
  }

  async close() {
    await this.browser.close();
    assert.deepEqual(this.complaints, [], "pages did what they should not");
  }
}

// signIn gives a user name and a password on the provider's page, which must be showing.
export async function signIn(page, username, password = "sallyport") {
  await page.getByLabel("User name").fill(username);
  await page.getByLabel("Password", { exact: true }).fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}

// heading waits for the page's one h1 and checks what it says.
export async function heading(page, text) {
  await page.getByRole("heading", { level: 1, name: text, exact: true }).waitFor();
}

// reference is the id that a page asks people to quote.
export async function reference(page) {
  return (await page.locator("dt:text-is('Reference') + dd").innerText()).trim();
}
