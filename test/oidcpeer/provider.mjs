// A provider that Sallyport's tests sign people in at: npm's oidc-provider in memory, on loopback.
//
// The first line of standard input holds the options as JSON; the first line of output says {"issuer": …}. Every further
// line of input is one command, {"NAME": ARGUMENT}, answered by one line. The process ends when its input does.
//
// With options.clients it is a company's provider: those clients, sign-in pages of its own that know people, second factors
// and prompts, refresh tokens that rotate, and logout that reaches clients. Without, it is what oidc-provider ships for
// development, with clients for every way to authenticate one.
import { createServer } from 'node:http';
import { Agent } from 'node:https';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import Provider, { interactionPolicy } from 'oidc-provider';

console.info = console.error; // notices of oidc-provider: standard output is for answers
const lines = createInterface({ input: process.stdin });
const options = JSON.parse(await new Promise((resolve) => lines.once('line', resolve)));
process.stdin.on('end', () => process.exit(0));

// people are the claims of each; a name without claims is an account that is disabled.
const people = {
  alice: { email: 'alice@corp.example', email_verified: true, name: 'Alice', groups: ['staff', 'wiki'] },
  mallory: { email: 'mallory@corp.example', email_verified: false, name: 'Mallory', groups: [] },
  ...options.people,
};

const client = {
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  id_token_signed_response_alg: 'ES256',
};

const development = () => [
  { ...client, redirect_uris: [options.redirect_uri], client_id: 'basic', client_secret: 'a secret & more', token_endpoint_auth_method: 'client_secret_basic' },
  { ...client, redirect_uris: [options.redirect_uri], client_id: 'post', client_secret: 'a secret & more', token_endpoint_auth_method: 'client_secret_post' },
  {
    ...client,
    redirect_uris: [options.redirect_uri],
    client_id: 'key',
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [options.client_key] },
  },
];

const cookieKey = randomUUID();
const newKey = () => ({
  ...generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'ES256',
});
let keys = [newKey()];

function configuration() {
  return {
    clients: development(),
    jwks: { keys },
    cookies: { keys: [cookieKey] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
    conformIdTokenClaims: !options.claims_in_id_token,
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    findAccount: (_, id) => people[id] && { accountId: id, claims: () => ({ sub: id, ...people[id] }) },
    issueRefreshToken: (_, c) => c.grantTypeAllowed('refresh_token'),
    pkce: { methods: ['S256'], required: () => true },
    ttl: { AccessToken: 300, Grant: 3600, IdToken: 300, Interaction: 600, RefreshToken: 3600, Session: 3600 },
    ...(options.clients ? company() : {}),
  };
}

// company is a configuration such as companies have.
function company() {
  const policy = interactionPolicy.base();
  policy.get('login').checks.add(new interactionPolicy.Check('second_factor', 'a second factor is asked for', ({ oidc }) => {
    const wanted = oidc.params.acr_values?.split(' ') ?? [];
    return wanted.length > 0 && !wanted.includes(oidc.session.acr) && !oidc.result?.login;
  }));
  return {
    clients: options.clients.map((c) => ({ ...client, require_auth_time: true, ...c })),
    acrValues: ['one', 'two'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'], acr: null, amr: null, auth_time: null, sid: null, iss: null },
    conformIdTokenClaims: false,
    rotateRefreshToken: true,
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: { enabled: true, logoutSource },
    },
    interactions: { policy, url: (_, interaction) => `/interaction/${interaction.uid}` },
    loadExistingGrant,
    // Clients are on names that only the tests resolve, behind certificates of their own.
    httpOptions: () => ({
      agent: new Agent({ ca: options.ca }),
      dnsLookup: (name, how, done) => (how.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)),
    }),
  };
}

// loadExistingGrant grants everything that is asked for: nobody is asked for consent.
async function loadExistingGrant(ctx) {
  const { session, client: { clientId }, params } = ctx.oidc;
  const before = session.grantIdFor(clientId) && await ctx.oidc.provider.Grant.find(session.grantIdFor(clientId));
  if (before?.accountId === session.accountId) return before;
  const grant = new ctx.oidc.provider.Grant({ clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope);
  await grant.save();
  return grant;
}

function logoutSource(ctx, form) {
  ctx.body = `<!doctype html><html lang="en"><title>Sign out</title><main><h1>Sign out of the company?</h1>${form}
    <button type="submit" form="op.logoutForm" name="logout" value="yes">Sign out</button></main></html>`;
}

let provider;
const calls = {}; // by grant type; refused ones also count as refused
const sessions = []; // {sub, client, sid} of every sign-in
let cut = false; // every connection, once a request has arrived
let delay = 0; // of token answers, in milliseconds

function start(issuer) {
  provider = new Provider(issuer, configuration());
  const count = (name) => { calls[name] = (calls[name] ?? 0) + 1; };
  provider.on('grant.success', (ctx) => count(ctx.oidc.params.grant_type));
  provider.on('grant.error', (ctx) => { count(ctx.oidc.params?.grant_type); count('refused'); });
  provider.on('authorization.success', ({ oidc }) => {
    count('authorize');
    sessions.push({ sub: oidc.session.accountId, client: oidc.client.clientId, sid: oidc.session.sidFor(oidc.client.clientId), params: oidc.params.toPlainObject() });
  });
  for (const event of ['backchannel.success', 'backchannel.error']) provider.on(event, () => count(event));
}

// interaction is the sign-in page: a name and any password, and a code where a second factor is asked for.
async function interaction(req, res) {
  const details = await provider.interactionDetails(req, res);
  const second = details.params.acr_values?.split(' ').includes('two') ?? false;
  let problem = '';
  if (req.method === 'POST') {
    const form = new URLSearchParams(Buffer.concat(await req.toArray()).toString());
    const account = form.get('login');
    if (form.get('password') !== 'wrong' && people[account]) {
      const strong = second && form.get('code') !== '';
      const login = { accountId: account, acr: strong ? 'two' : 'one', amr: strong ? ['pwd', 'otp', 'mfa'] : ['pwd'] };
      return provider.interactionFinished(req, res, { login }, { mergeWithLastSubmission: false });
    }
    problem = '<p role="alert">That is not right.</p>';
  }
  const hint = String(details.params.login_hint ?? '').replace(/[^\w.@-]/g, '');
  res.setHeader('Content-Type', 'text/html; charset=utf-8');
  res.end(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Sign in</title><main><h1>Sign in</h1>${problem}
    <form method="post" action="/interaction/${details.uid}">
      <p><label>User name <input name="login" value="${hint}" required></label></p>
      <p><label>Password <input name="password" type="password"></label></p>
      ${second ? '<p><label>Code <input name="code"></label></p>' : ''}
      <button>Sign in</button>
    </form></main></html>`);
}

const commands = {
  people: (changed) => { Object.assign(people, changed); },
  cut: (yes) => { cut = yes; },
  // down listens no more, or again.
  down: (yes) => new Promise((resolve) => {
    if (!yes) return void server.listen(new URL(provider.issuer).port, '127.0.0.1', resolve);
    server.close(() => resolve());
    server.closeAllConnections();
  }),
  delay: (milliseconds) => { delay = milliseconds; },
  calls: () => calls,
  sessions: () => sessions,
  // rotate signs with a new key from now on. The one before stays published while "keep" is true.
  rotate: (keep) => { keys = keep ? [newKey(), keys[0]] : [newKey()]; start(provider.issuer); },
  // logout tells a client as oidc-provider does when somebody signs out, and says what came of it.
  logout: async ({ client: id, sub, sid }) => {
    try {
      await (await provider.Client.find(id)).backchannelLogout(sub, sid);
      return 'taken';
    } catch (error) {
      return error.message;
    }
  },
  // token is a logout token, or whatever else is asked for, with further claims.
  token: async ({ client: id, sub, use = 'logout', claims = {} }) => {
    const token = new provider.IdToken({ sub }, { client: await provider.Client.find(id), ctx: undefined });
    token.mask = { sub: null };
    for (const [name, value] of Object.entries(claims)) token.set(name, value);
    return token.issue({ use });
  },
};

const server = createServer(async (req, res) => {
  if (cut) return void req.socket.destroy();
  if (options.clients && req.url.startsWith('/interaction/')) {
    return void interaction(req, res).catch((error) => { res.statusCode = 400; res.end(`<h1>${error.name}</h1>`); });
  }
  if (delay > 0 && req.url === '/token') await new Promise((resolve) => { setTimeout(resolve, delay); });
  provider.callback()(req, res);
});
server.listen(options.port, '127.0.0.1');
server.once('listening', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  start(issuer);
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
  lines.on('line', async (line) => {
    const [[name, argument]] = Object.entries(JSON.parse(line));
    process.stdout.write(`${JSON.stringify({ answer: (await commands[name](argument)) ?? null })}\n`);
  });
});
