package gateway

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/audit"
	"sallyport/authn/session"
)

// frames is a client that speaks HTTP/2 by itself and opens no window for the bodies of answers.
type frames struct {
	*http2.Framer
	conn net.Conn
}

func (b *bed) frames(t *testing.T) *frames {
	t.Helper()
	conn, err := tls.Dial("tcp", b.front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, ServerName: wikiHost, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	io.WriteString(conn, http2.ClientPreface)
	f := &frames{http2.NewFramer(conn, conn), conn}
	f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	return f
}

// get asks for a page on stream 1; an empty handle is a stranger.
func (f *frames) get(path, handle string) {
	var head bytes.Buffer
	encoder := hpack.NewEncoder(&head)
	for _, field := range []hpack.HeaderField{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: wikiHost},
		{Name: ":path", Value: path}, {Name: "cookie", Value: "__Host-sallyport=" + handle}} {
		encoder.WriteField(field)
	}
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head.Bytes(), EndHeaders: true, EndStream: true})
}

// awaitReset returns when the gateway has reset a stream.
func (f *frames) awaitReset(t *testing.T) {
	t.Helper()
	f.conn.SetReadDeadline(time.Now().Add(2 * time.Minute))
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("the stream was not reset: %v", err)
		}
		if _, reset := frame.(*http2.RSTStreamFrame); reset {
			return
		}
	}
}

// twentyThousand is an app whose answers fit a buffer.
func twentyThousand(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "20000")
	io.CopyN(w, zeros{}, 20_000)
}

// REV-02: also an answer that fits a buffer ends with its session where the client takes nothing.
func TestSmallAnswerThatIsNotTakenEndsWithItsSession(t *testing.T) {
	b := newBed(t, twentyThousand)
	client := b.frames(t)
	client.get("/page", "ada")
	eventually(t, "the answer to be under way", func() bool {
		list := b.server.streams.all()
		return len(list) == 1 && list[0].writing.Load()
	})
	b.server.SessionEnded(session.Ended{SessionID: "session of ada", Reason: session.Revoked})
	client.awaitReset(t)
	if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != "session_revoked" {
		t.Errorf("the outcome says %q", got)
	}
}

// DOS-19: a client that opens no window is left, whether its answer is an app's or ours, which strangers get too.
func TestClientWithoutWindowIsLeft(t *testing.T) {
	for name, handle := range map[string]string{"a stranger": "", "ada": "ada"} {
		b := newBed(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "small") })
		b.server.answering = time.Second
		client := b.frames(t)
		client.get("/page", handle)
		t.Log(name)
		client.awaitReset(t)
	}
	b := newBed(t, twentyThousand)
	app := wiki(t, b.origin, "staff")
	app.Timeouts.Client = time.Second
	b.server.Swap(snapshot(t, app))
	b.run(t)
	client := b.frames(t)
	client.get("/page", "ada")
	client.awaitReset(t)
	if got := b.log.one(t, audit.TypeOutcome).Outcome.Error; got != "client_stalled" {
		t.Errorf("the outcome says %q", got)
	}
}
