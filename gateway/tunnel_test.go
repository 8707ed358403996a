package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sallyport/audit"
)

// An app that has said its last word and does not listen any more ends the tunnel, however much the client has to say.
func TestTunnelEndsWithAnAppThatDoesNotListen(t *testing.T) {
	full := make(chan struct{})
	b := newBed(t, nil)
	app := wiki(t, rawApp(t, func(conn net.Conn, r *bufio.Reader) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(conn, switching+"\r\n")
		<-full
		conn.(*net.TCPConn).CloseWrite()
		<-t.Context().Done()
	}), "staff")
	b.server.Swap(snapshot(t, app))
	client := b.dial(t)
	io.WriteString(client, upgrade)
	if res, err := http.ReadResponse(bufio.NewReader(client), nil); err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", res, err)
	}
	for err := error(nil); err == nil; { // until nothing moves any more
		client.SetWriteDeadline(time.Now().Add(time.Second))
		_, err = io.CopyN(client, zeros{}, 1<<20)
	}
	close(full)
	eventually(t, "the tunnel to end", func() bool { return len(b.server.streams.all()) == 0 })
	if n := b.log.one(t, audit.TypeOutcome).Outcome.BytesIn; n == 0 {
		t.Error("nothing was counted")
	}
}

// What both sides say right behind their heads reaches the other one, counted; a switch has no length.
func TestTunnelBeginsWithEarlyBytes(t *testing.T) {
	b := newBed(t, nil)
	app := wiki(t, rawApp(t, func(conn net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(conn, switching+"Content-Length: 1\r\n\r\nhello")
		io.CopyN(conn, r, 5)
	}), "staff")
	b.server.Swap(snapshot(t, app))
	client := b.dial(t)
	io.WriteString(client, upgrade+"early")
	r := bufio.NewReader(client)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols || res.Header["Content-Length"] != nil {
		t.Fatalf("got %v, %v", res, err)
	}
	if got, _ := io.ReadAll(r); string(got) != "helloearly" {
		t.Errorf("got %q", got)
	}
	if got := b.log.one(t, audit.TypeOutcome).Outcome.BytesIn; got != 5 {
		t.Errorf("%d bytes were counted, want 5", got)
	}
}

const upgrade = "GET /socket HTTP/1.1\r\nHost: " + wikiHost + "\r\nCookie: __Host-sallyport=ada\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// switching is an app's answer to upgrade (RFC 6455 §1.3 has the same example).
const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

// SMUG-39: a status 101 that does not answer this very handshake, as from an app that relays what another server said,
// opens no tunnel.
func TestTunnelNeedsAnAnswerToItsHandshake(t *testing.T) {
	for name, answer := range map[string]string{
		"nothing accepted":  strings.Replace(switching, "Sec-WebSocket-Accept", "X", 1),
		"another handshake": strings.Replace(switching, "s3pP", "S3pP", 1),
		"two answers":       switching + "Sec-WebSocket-Accept: x\r\n",
		"another protocol":  strings.Replace(switching, "websocket", "h2c", 1),
	} {
		b := newBed(t, nil)
		app := wiki(t, rawApp(t, func(conn net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			io.WriteString(conn, answer+"\r\n")
			io.Copy(io.Discard, r)
		}), "staff")
		b.server.Swap(snapshot(t, app))
		client := b.dial(t)
		io.WriteString(client, upgrade)
		if res, err := http.ReadResponse(bufio.NewReader(client), nil); err != nil || res.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: got %v, %v, want 502", name, res, err)
		}
	}
}
