package gateway

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// tunnel joins the client's connection to the app's after both agreed to speak another protocol, which can only be
// WebSocket: the canonical request admits nothing else. It ends when either side ends, or when the exchange's context
// does; a WebSocket client is then told so in its own protocol.
func (x *exchange) tunnel(res *http.Response) error {
	app, ok := res.Body.(io.ReadWriteCloser)
	if !ok || !strings.EqualFold(res.Header.Get("Upgrade"), x.req.Upgrade) || x.req.Upgrade == "" || !acceptsWebSocket(res.Header, x.req.Header.Get("Sec-Websocket-Key")) {
		res.Body.Close()
		return x.unavailable(errors.New("the app switched to a protocol it was not asked for"))
	}
	defer app.Close()
	client, err := x.switchProtocols(res)
	if err != nil {
		x.upstreamErr = err
		return nil // the connection is not HTTP's any more: there is nobody to answer
	}
	defer client.Close()
	socket := newWebSocket(client)
	parted := make(chan struct{})
	stop := context.AfterFunc(x.ctx, func() {
		defer close(parted)
		socket.end(context.Cause(x.ctx))
		client.SetReadDeadline(time.Now().Add(partingTime))
		app.Close()
	})
	var copies sync.WaitGroup
	copies.Go(func() {
		io.Copy(app, client)
		app.Close()
		if x.ctx.Err() != nil {
			awaitClose(client)
		}
	})
	io.Copy(socket, app)
	app.Close() // one that has said its last word and does not listen either holds nobody
	if stop() {
		client.Close()
	} else {
		<-parted
	}
	copies.Wait()
	return nil
}

// acceptsWebSocket reports whether an app answered this very handshake (RFC 6455 §4.2.2). One that only relays the status
// of another server has agreed to nothing, and would read what the client says next as requests that nobody decided on.
func acceptsWebSocket(answer http.Header, key string) bool {
	accepted := answer["Sec-Websocket-Accept"]
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return len(accepted) == 1 && accepted[0] == base64.StdEncoding.EncodeToString(sum[:])
}

// awaitClose gives the client the time to answer a close frame. A connection that is closed while bytes of the client
// arrive is reset, which can overtake the frame (RFC 6455 §7.1.1).
func awaitClose(client net.Conn) { io.Copy(io.Discard, client) }

// switchProtocols answers 101 and takes the client's connection over.
func (x *exchange) switchProtocols(res *http.Response) (net.Conn, error) {
	header := x.w.Header()
	maps.Copy(header, res.Header)
	delete(header, "Content-Length") // RFC 9110 §8.6: a switch has none, and clients would not know what to count
	x.stick(header)
	conn, buffered, err := x.w.Hijack()
	if err != nil {
		return nil, fmt.Errorf("taking over the connection: %w", err)
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "HTTP/1.1 %d %s\r\n", res.StatusCode, http.StatusText(res.StatusCode))
	header.Write(&head)
	head.WriteString("\r\n")
	conn.SetDeadline(time.Time{})
	if _, err := conn.Write(head.Bytes()); err != nil {
		conn.Close()
		return nil, err
	}
	if n := buffered.Reader.Buffered(); n > 0 { // what the client sent right behind its request
		x.w.bytesIn.Add(int64(n))
		early, _ := buffered.Reader.Peek(n)
		return &readAhead{Conn: conn, early: bytes.NewReader(bytes.Clone(early))}, nil
	}
	return conn, nil
}

// readAhead is a connection of which some bytes were read already.
type readAhead struct {
	net.Conn
	early *bytes.Reader
}

func (c *readAhead) Read(p []byte) (int, error) {
	if c.early.Len() > 0 {
		return c.early.Read(p)
	}
	return c.Conn.Read(p)
}
