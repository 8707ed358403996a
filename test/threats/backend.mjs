// An internal app on Node's http module. It writes down how Node read each request, one JSON value per line on standard
// output, the first of which is its port.
import http from 'node:http';

const say = (value) => process.stdout.write(JSON.stringify(value) + '\n');

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return 'undecodable: ' + text;
  }
}

// located is the URL as apps on Node make it of a request.
function located(req) {
  try {
    return new URL(req.url, 'http://' + req.headers.host);
  } catch {
    return { host: 'none', pathname: 'unreadable: ' + req.url, searchParams: [] };
  }
}

const server = http.createServer((req, res) => {
  let size = 0;
  req.on('data', (chunk) => { size += chunk.length; });
  req.on('end', () => {
    const url = located(req);
    say({
      id: req.headers['x-request-id'] ?? '', method: req.method, host: req.headers.host, authority: url.host,
      path: decoded(url.pathname), query: [...url.searchParams], size,
      user: req.headers['x-sallyport-user'] ?? '', trailers: Object.keys(req.trailers).length,
    });
    res.end('seen');
  });
});
server.on('clientError', (err, socket) => {
  if (err.code !== 'ECONNRESET') say({ broken: err.code });
  socket.destroy();
});
server.on('connect', (req, socket) => { say({ broken: 'CONNECT ' + req.url }); socket.destroy(); });
server.on('upgrade', (req, socket) => { say({ broken: 'upgrade ' + req.url }); socket.destroy(); });
server.listen(0, '127.0.0.1', () => say({ port: server.address().port }));
process.stdin.resume();
process.stdin.on('end', () => process.exit(0)); // whoever started us has gone
