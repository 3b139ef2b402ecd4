// A real OpenID provider (npm oidc-provider) whose users need no page to log in: `login_hint` says who it is.
// node oidc_provider.mjs INDEX_OF_OIDC_PROVIDER PORT REDIRECT_URI
// PUT /test {"user": {"groups": [...]}} sets a user's claims, null removes the user; {"settings": ...} changes what tokens have.

import { createServer } from 'node:http';
import { pathToFileURL } from 'node:url';

const [entry, port, redirect] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(entry));
const users = new Map();
const issuer = `http://localhost:${port}`;

function providerOf(idTokenHasClaims) {
  const provider = new Provider(issuer, {
    clients: [{
      client_id: 'fraudwatch',
      client_secret: 'a secret of the client',
      redirect_uris: [redirect],
      grant_types: ['authorization_code', 'refresh_token'],
    }],
    claims: { openid: ['sub'], profile: ['preferred_username', 'groups'] },
    conformIdTokenClaims: !idTokenHasClaims,
    cookies: { keys: ['a key of cookies'] },
    features: { devInteractions: { enabled: false } },
    findAccount: (_, id) => (users.has(id) ? { accountId: id, claims: () => ({ sub: id, ...users.get(id) }) } : undefined),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: () => true,
    pkce: { required: () => true },
    rotateRefreshToken: () => true,
    ttl: { AccessToken: 600, Grant: 86400, IdToken: 3600, Interaction: 600, RefreshToken: 86400, Session: 86400 },
  });
  provider.use(async (ctx, next) => {
    if (!ctx.path.startsWith('/interaction/')) return next();
    const { prompt, params, session } = await provider.interactionDetails(ctx.req, ctx.res);
    let result;
    if (!users.has(params.login_hint)) {
      result = { error: 'access_denied' };
    } else if (prompt.name === 'login') {
      result = { login: { accountId: params.login_hint } };
    } else {
      const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
      grant.addOIDCScope(params.scope);
      result = { consent: { grantId: await grant.save() } };
    }
    await provider.interactionFinished(ctx.req, ctx.res, result, { mergeWithLastSubmission: true });
  });
  provider.on('server_error', (_, error) => console.error(error));
  return provider.callback();
}

const handlers = [providerOf(false), providerOf(true)];
let settings = { idTokenHasClaims: false, away: false };

createServer((request, response) => {
  if (request.method === 'PUT' && request.url === '/test') {
    let body = '';
    request.on('data', (part) => { body += part; });
    request.on('end', () => {
      for (const [name, claims] of Object.entries(JSON.parse(body))) {
        if (name === 'settings') settings = { ...settings, ...claims };
        else if (claims === null) users.delete(name);
        else users.set(name, claims);
      }
      response.end();
    });
  } else if (settings.away) {
    response.statusCode = 503;
    response.end('<html>away</html>');
  } else {
    handlers[settings.idTokenHasClaims ? 1 : 0](request, response);
  }
}).listen(Number(port), 'localhost', () => console.log('ready'));
