package apps

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

const (
	// waiting is how many messages a slow browser may be behind before its connection is closed.
	waiting = 64
	// maxWords bounds one message of the chat, in bytes.
	maxWords = 2000
	// writeTime bounds one message to one browser.
	writeTime = 5 * time.Second
)

// hub connects everybody who has the wiki open: presence and chat.
type hub struct {
	mu      sync.Mutex
	members map[*member]bool
}

type member struct {
	name string
	out  chan message
	drop context.CancelFunc
}

// message is what browsers receive.
type message struct {
	Kind   string   `json:"kind"` // here or said
	People []string `json:"people,omitempty"`
	Who    string   `json:"who,omitempty"`
	Text   string   `json:"text,omitempty"`
}

func newHub() *hub { return &hub{members: map[*member]bool{}} }

// serve keeps one browser connected until it leaves, the gateway ends the stream or the app stops.
func (h *hub) serve(w http.ResponseWriter, r *http.Request, v *Visitor) {
	connection, err := websocket.Accept(w, r, nil) // checks that Origin is this host
	if err != nil {
		return // Accept has answered
	}
	defer connection.CloseNow()
	connection.SetReadLimit(2 * maxWords)
	ctx, drop := context.WithCancel(r.Context())
	defer drop()
	m := &member{v.Shown(), make(chan message, waiting), drop}
	h.join(m)
	defer h.leave(m)

	var writer sync.WaitGroup
	defer writer.Wait()
	defer drop()
	writer.Go(func() { m.write(ctx, connection) })
	for {
		var said struct{ Text string }
		if wsjson.Read(ctx, connection, &said) != nil {
			return
		}
		if text := strings.TrimSpace(said.Text); text != "" && len(text) <= maxWords {
			h.tell(message{Kind: "said", Who: m.name, Text: text})
		}
	}
}

func (m *member) write(ctx context.Context, connection *websocket.Conn) {
	defer m.drop()
	for {
		select {
		case next := <-m.out:
			bounded, cancel := context.WithTimeout(ctx, writeTime)
			err := wsjson.Write(bounded, connection, next)
			cancel()
			if err != nil {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (h *hub) join(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members[m] = true
	h.tellLocked(h.presenceLocked())
}

func (h *hub) leave(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.members, m)
	h.tellLocked(h.presenceLocked())
}

func (h *hub) tell(next message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tellLocked(next)
}

func (h *hub) tellLocked(next message) {
	for m := range h.members {
		select {
		case m.out <- next:
		default:
			m.drop()
		}
	}
}

func (h *hub) presenceLocked() message {
	var names []string
	for m := range h.members {
		names = append(names, m.name)
	}
	slices.Sort(names)
	return message{Kind: "here", People: slices.Compact(names)}
}

// change is one edit, as the feed tells it.
type change struct {
	Title string `json:"title"`
	By    string `json:"by"`
	At    string `json:"at"`
	URL   string `json:"url"`
}

// kept is how many changes a browser that comes new is told.
const kept = 6

// quiet is how long the feed may be silent before it sends a comment, so that a dead connection is noticed.
const quiet = 15 * time.Second

// feed tells edits as server-sent events, one by one as they happen.
type feed struct {
	mu      sync.Mutex
	changes []change
	grown   chan struct{} // closed and replaced when changes grows
}

func newFeed() *feed { return &feed{grown: make(chan struct{})} }

func (f *feed) add(c change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = append(f.changes, c)
	close(f.grown)
	f.grown = make(chan struct{})
}

// since returns the changes after the first n, and what will be closed when there are more.
func (f *feed) since(n int) ([]change, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.changes[n:]), f.grown
}

func (f *feed) serve(w http.ResponseWriter, r *http.Request, _ *Visitor) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	stream := http.NewResponseController(w)
	all, _ := f.since(0)
	told := max(0, len(all)-kept)
	for {
		news, grown := f.since(told)
		for _, c := range news {
			data, err := json.Marshal(c)
			if err != nil {
				panic("BUG: " + err.Error())
			}
			if _, err := w.Write([]byte("event: change\ndata: " + string(data) + "\n\n")); err != nil {
				return
			}
		}
		told += len(news)
		if stream.Flush() != nil {
			return
		}
		select {
		case <-grown:
		case <-time.After(quiet):
			if _, err := w.Write([]byte(": still here\n\n")); err != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
