package gateway

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"sallyport/gateway/canon"
	"sallyport/gateway/shield"
	"sallyport/gateway/upstream"
)

// asCall makes a request a gRPC call by all that a client can say.
func asCall(r *http.Request, contentType string) *http.Request {
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Te", "trailers")
	return r
}

// To an app that is not said to speak HTTP/2 no frame is written, whatever a client calls its body: the app could take
// what is in it for a request.
func TestNoHTTP2ToAppsThatDidNotAskForIt(t *testing.T) {
	const smuggled = "\r\n\r\nGET /admin/smuggled-1 HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, protocol := range []upstream.Protocol{"", upstream.ProtocolAuto, upstream.ProtocolHTTP1} {
		for _, contentType := range []string{"application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc;x", "application/grpc-web"} {
			line := make(chan string, 4)
			b := newBed(t, nil)
			app := wiki(t, rawApp(t, func(conn net.Conn, r *bufio.Reader) {
				first, _ := r.Peek(len("POST /page HTTP/1.1\r\n"))
				line <- string(first)
				if asked, err := http.ReadRequest(r); err == nil {
					io.Copy(io.Discard, asked.Body)
					io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				}
			}), "staff")
			app.UpstreamProtocol = protocol
			b.server.Swap(snapshot(t, app))
			status, _ := answerTo(t, b.client(t, "h2"), asCall(b.request(t, "POST", "/page", "ada", strings.NewReader(smuggled)), contentType))
			if got := <-line; status != http.StatusOK || got != "POST /page HTTP/1.1\r\n" {
				t.Errorf("%q, %s: got %d, the app read %q first", protocol, contentType, status, got)
			}
			if len(line) != 0 {
				t.Errorf("%q, %s: the app was asked again: %q", protocol, contentType, <-line)
			}
		}
	}
}

// A content type that the client chooses does not switch inspection off, nor does all that makes a gRPC call, unless the
// app is said to speak HTTP/2.
func TestCallingABodyGRPCDoesNotHideIt(t *testing.T) {
	const body = `{"q":"<script>alert(document.cookie)</script>"}`
	asked := false
	b := guarded(t, shield.Block, func(http.ResponseWriter, *http.Request) { asked = true })
	for _, contentType := range []string{"application/grpc", "application/grpc+proto", "application/grpc+json", "application/grpc;x", "application/grpc-web+json"} {
		for _, protocol := range []string{"h2", "http/1.1"} {
			r := asCall(b.request(t, "POST", "/page", "ada", strings.NewReader(body)), contentType)
			answer, err := b.client(t, protocol).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if refused := answer.StatusCode == http.StatusForbidden || answer.Header.Get("Grpc-Status") == "7"; !refused || asked {
				t.Errorf("%s over %s: got %d, reached the app: %t", contentType, protocol, answer.StatusCode, asked)
			}
		}
	}
}

// What the gateway takes for a call that streams, by app and by what the client says.
func TestWhatStreamsAsACall(t *testing.T) {
	for _, row := range []struct {
		name, contentType, te, method string
		major                         int
		protocol                      upstream.Protocol
		upstream                      string
		inspected                     bool
		want                          bool
	}{
		{"h2c", "application/grpc", "trailers", "POST", 2, upstream.ProtocolH2C, "http://10.0.0.5", true, true},
		{"h2", "application/grpc+proto", "trailers", "POST", 2, upstream.ProtocolH2, "https://10.0.0.5", true, true},
		{"JSON", "application/grpc+json", "trailers", "POST", 2, upstream.ProtocolH2C, "http://10.0.0.5", true, false},
		{"JSON, not inspected", "application/grpc+json", "trailers", "POST", 2, upstream.ProtocolH2C, "http://10.0.0.5", false, true},
		{"auto over TLS", "application/grpc", "trailers", "POST", 2, upstream.ProtocolAuto, "https://10.0.0.5", false, true},
		{"auto over TLS, inspected", "application/grpc", "trailers", "POST", 2, upstream.ProtocolAuto, "https://10.0.0.5", true, false},
		{"auto", "application/grpc", "trailers", "POST", 2, upstream.ProtocolAuto, "http://10.0.0.5", false, false},
		{"http1", "application/grpc", "trailers", "POST", 2, upstream.ProtocolHTTP1, "https://10.0.0.5", false, false},
		{"HTTP/1.1", "application/grpc", "trailers", "POST", 1, upstream.ProtocolH2C, "http://10.0.0.5", false, false},
		{"PUT", "application/grpc", "trailers", "PUT", 2, upstream.ProtocolH2C, "http://10.0.0.5", false, false},
		{"no trailers", "application/grpc", "", "POST", 2, upstream.ProtocolH2C, "http://10.0.0.5", false, false},
		{"a parameter", "application/grpc;x", "trailers", "POST", 2, upstream.ProtocolH2C, "http://10.0.0.5", false, false},
		{"a parameter behind", "application/grpc+a;x", "trailers", "POST", 2, upstream.ProtocolH2C, "http://10.0.0.5", false, false},
		{"gRPC-Web", "application/grpc-web", "trailers", "POST", 2, upstream.ProtocolH2C, "http://10.0.0.5", false, false},
	} {
		said := http.Header{"Content-Type": {row.contentType}, "Te": {row.te}}
		app := wiki(t, row.upstream, "staff")
		app.UpstreamProtocol = row.protocol
		x := &exchange{r: &http.Request{ProtoMajor: row.major, Header: said}, req: &canon.Request{Method: row.method, Header: said}, app: &App{App: &app}}
		if row.inspected {
			x.app.inspector = new(shield.Inspector)
		}
		if got := x.streamsCall(); got != row.want {
			t.Errorf("%s: %t, want %t", row.name, got, row.want)
		}
	}
}
