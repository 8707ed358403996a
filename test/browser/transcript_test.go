package browser_test

import (
	"bytes"
	"regexp"
	"sync"
	"testing"
	"time"
)

// transcript keeps what a program prints and lets tests wait for words.
type transcript struct {
	mu    sync.Mutex
	text  bytes.Buffer
	grown chan struct{}
}

func newTranscript() *transcript { return &transcript{grown: make(chan struct{})} }

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.grown)
	t.grown = make(chan struct{})
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// wait returns the first match, as soon as there is one.
func (t *transcript) wait(tb testing.TB, ended <-chan struct{}, words *regexp.Regexp) string {
	tb.Helper()
	patience := time.After(3 * time.Minute)
	for {
		t.mu.Lock()
		found, grown := words.FindString(t.text.String()), t.grown
		t.mu.Unlock()
		if found != "" {
			return found
		}
		select {
		case <-grown:
		case <-ended:
			tb.Fatalf("the program ended before it said %q; it said:\n%s", words, t)
		case <-patience:
			tb.Fatalf("waited for %q, and the program said:\n%s", words, t)
		}
	}
}
