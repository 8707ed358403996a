// oidc-provider as a process of its own, for tests: one line of JSON in, one line out when it listens.
//
//   in   {"port": 0, "redirect_uri": "…", "client_key": {JWK}, "claims_in_id_token": true}
//   out  {"issuer": "http://127.0.0.1:…"}
//
// Its signing key is made at start, so a restart rotates it. It ends when standard input does.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const lines = createInterface({ input: process.stdin });
const options = JSON.parse(await new Promise((resolve) => lines.once('line', resolve)));
process.stdin.on('end', () => process.exit(0));

const people = {
  alice: { email: 'alice@corp.example', email_verified: true, name: 'Alice', groups: ['staff', 'wiki'] },
  mallory: { email: 'mallory@corp.example', email_verified: false, name: 'Mallory', groups: [] },
};

const client = {
  redirect_uris: [options.redirect_uri],
  grant_types: ['authorization_code', 'refresh_token'],
  response_types: ['code'],
  id_token_signed_response_alg: 'ES256',
};

function configuration() {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ format: 'jwk' });
  return {
    clients: [
      { ...client, client_id: 'basic', client_secret: 'a secret & more', token_endpoint_auth_method: 'client_secret_basic' },
      { ...client, client_id: 'post', client_secret: 'a secret & more', token_endpoint_auth_method: 'client_secret_post' },
      {
        ...client,
        client_id: 'key',
        token_endpoint_auth_method: 'private_key_jwt',
        token_endpoint_auth_signing_alg: 'ES256',
        jwks: { keys: [options.client_key] },
      },
    ],
    jwks: { keys: [{ ...key, kid: randomUUID(), use: 'sig', alg: 'ES256' }] },
    cookies: { keys: [randomUUID()] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
    conformIdTokenClaims: !options.claims_in_id_token,
    enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
    issueRefreshToken: (_, c) => c.grantTypeAllowed('refresh_token'),
    pkce: { methods: ['S256'], required: () => true },
    ttl: { AccessToken: 300, Grant: 3600, IdToken: 300, Interaction: 600, RefreshToken: 3600, Session: 3600 },
  };
}

const server = createServer();
server.listen(options.port, '127.0.0.1', () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  server.on('request', new Provider(issuer, configuration()).callback());
  process.stdout.write(`${JSON.stringify({ issuer })}\n`);
});
