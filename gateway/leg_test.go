package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sallyport/audit"
	"sallyport/gateway/route"
	"sallyport/gateway/upstream"
)

// heads is an app that speaks HTTP/2 by itself: it answers every request with the fields and "ok".
func heads(fields ...hpack.HeaderField) func(net.Conn, *bufio.Reader) {
	return func(conn net.Conn, r *bufio.Reader) {
		io.ReadFull(r, make([]byte, len(http2.ClientPreface)))
		framer := http2.NewFramer(conn, r)
		framer.WriteSettings()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			asked, ok := frame.(*http2.HeadersFrame)
			if !ok {
				continue
			}
			var head bytes.Buffer
			encoder := hpack.NewEncoder(&head)
			for _, field := range fields {
				encoder.WriteField(field)
			}
			framer.WriteHeaders(http2.HeadersFrameParam{StreamID: asked.StreamID, BlockFragment: head.Bytes(), EndHeaders: true})
			framer.WriteData(asked.StreamID, true, []byte("ok"))
		}
	}
}

// RESP-01: HTTP/2 carries lengths that HTTP/1.1 would frame a message by; more than one, or what is no number, does not
// reach a client.
func TestLengthsOfHTTP2AppsAreOneNumber(t *testing.T) {
	status := hpack.HeaderField{Name: ":status", Value: "200"}
	for name, lengths := range map[string][]string{"none": nil, "one": {"2"}, "two": {"2", "40"}, "a sign": {"+2"}, "empty": {""}} {
		fields := []hpack.HeaderField{status}
		for _, length := range lengths {
			fields = append(fields, hpack.HeaderField{Name: "content-length", Value: length})
		}
		b := newBed(t, nil)
		app := wiki(t, rawApp(t, heads(fields...)), "staff")
		app.UpstreamProtocol = upstream.ProtocolH2C
		b.server.Swap(snapshot(t, app))
		want := http.StatusBadGateway
		if name == "none" || name == "one" {
			want = http.StatusOK
		}
		client := b.dial(t)
		io.WriteString(client, "GET /page HTTP/1.1\r\nHost: "+wikiHost+"\r\nCookie: __Host-sallyport=ada\r\nConnection: close\r\n\r\n")
		got, _ := io.ReadAll(client)
		if !strings.HasPrefix(string(got), fmt.Sprintf("HTTP/1.1 %d ", want)) || bytes.Count(got, []byte("Content-Length:")) > 1 {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// A status that is none is an app that gave no answer: 502, and on record as such.
func TestStatusThatIsNoneIsNoAnswer(t *testing.T) {
	for _, transport := range []route.Transport{route.TransportLean, route.TransportStandard} {
		for _, status := range []string{"042", "099", "000", "101"} {
			b := newBed(t, nil)
			app := wiki(t, rawApp(t, says("HTTP/1.1 "+status+" X\r\nContent-Length: 2\r\n\r\nok")), "staff")
			app.UpstreamTransport = transport
			b.server.Swap(snapshot(t, app))
			for _, protocol := range []string{"http/1.1", "h2"} {
				if got, _ := answerTo(t, b.client(t, protocol), b.request(t, "GET", "/page", "ada", nil)); got != http.StatusBadGateway {
					t.Errorf("%s %s %s: got %d", transport, protocol, status, got)
				}
			}
			if got := b.log.one(t, audit.TypeOutcome).Outcome; got.Error != "upstream_failed" || got.Status != http.StatusBadGateway {
				t.Errorf("%s %s: outcome %+v", transport, status, got)
			}
		}
	}
}
