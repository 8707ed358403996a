package threats

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"sallyport/test/harness"
)

// patience is for what must come, on a machine that is busy.
const patience = time.Minute

// sighting is one request as a back end read it.
type sighting struct {
	ID        string      `json:"id"` // X-Request-Id
	Method    string      `json:"method"`
	Host      string      `json:"host"`
	Authority string      `json:"authority"` // of the URL that the back end makes of the request
	Path      string      `json:"path"`      // decoded
	Query     [][2]string `json:"query"`     // decoded, in order
	Size      int64       `json:"size"`      // of the body
	User      string      `json:"user"`
	Trailers  int         `json:"trailers"`
	Broken    string      `json:"broken"` // what was no request
}

// backend is a real web server behind the gateway.
type backend struct {
	URL string

	mu   sync.Mutex
	seen []sighting
}

func (b *backend) note(s sighting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, s)
}

// all are the sightings so far, once the back end has written down what it was asked.
func (b *backend) all(t *testing.T) []sighting {
	t.Helper()
	res, err := http.Get(b.URL + "/the-end")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	var seen []sighting
	harness.Eventually(t, patience, "the back end to write down what it saw", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		n := len(b.seen)
		if n == 0 || b.seen[n-1].Path != "/the-end" {
			return false
		}
		seen, b.seen = b.seen[:n-1], nil
		return true
	})
	return seen
}

// onGo is net/http. Its handler reads the request as apps do.
func onGo(t *testing.T) *backend {
	t.Helper()
	b := &backend{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		size, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			b.note(sighting{Broken: err.Error()})
			return
		}
		b.note(sighting{ID: r.Header.Get("X-Request-Id"), Method: r.Method, Host: r.Host, Authority: r.Host, Path: r.URL.Path, Query: pairs(r.URL.RawQuery),
			Size: size, User: r.Header.Get("X-Sallyport-User"), Trailers: len(r.Trailer)})
		io.WriteString(w, "seen")
	}))
	t.Cleanup(server.Close)
	b.URL = server.URL
	return b
}

// onNode is Node's http.
func onNode(t *testing.T) *backend {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed: run `make test`, which installs what the tests need")
	}
	cmd := exec.Command(node, "backend.mjs")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := json.NewDecoder(bufio.NewReader(stdout))
	var first struct{ Port json.Number }
	if err := lines.Decode(&first); err != nil {
		stdin.Close()
		cmd.Wait() // what it has to say is in complaints
		t.Fatalf("starting Node: %v\n%s", err, complaints.String())
	}
	b := &backend{URL: "http://127.0.0.1:" + first.Port.String()}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			var s sighting
			if lines.Decode(&s) != nil {
				return
			}
			b.note(s)
		}
	})
	t.Cleanup(func() {
		stdin.Close() // it ends when its input does
		reading.Wait()
		cmd.Wait()
	})
	return b
}

// pairs are a query's parameters as the URL standard reads them (application/x-www-form-urlencoded), in order.
func pairs(query string) [][2]string {
	list := [][2]string{}
	for part := range strings.SplitSeq(query, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		list = append(list, [2]string{unescape(name), unescape(value)})
	}
	return list
}

func unescape(s string) string {
	text, err := url.QueryUnescape(s)
	if err != nil {
		return "undecodable: " + s
	}
	return text
}
