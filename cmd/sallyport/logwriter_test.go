package main

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// blocked takes nothing until it is released.
type blocked struct {
	release chan struct{}
	mu      sync.Mutex
	got     bytes.Buffer
}

func (b *blocked) Write(p []byte) (int, error) {
	<-b.release
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.got.Write(p)
}

// A reader of the log that stands still holds nobody up; what is lost is counted, and what is written is whole lines.
func TestABlockedLogHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &blocked{release: make(chan struct{})}
		w := newLogWriter(out)
		log := slog.New(slog.NewJSONHandler(w, nil))
		w.lost = func(lines int) { log.Warn("log lines were lost", "lines", lines) }
		const lines = 4 * maxUnwritten / 100
		for range lines {
			log.Info("request", "path", strings.Repeat("x", 100))
		}
		synctest.Wait()
		close(out.release)
		synctest.Wait()
		log.Info("after")
		w.Close()
		text := out.got.String()
		if !strings.Contains(text, `"log lines were lost"`) || !strings.Contains(text, `"after"`) || !strings.HasSuffix(text, "\n") {
			t.Errorf("the log ends in %s", text[max(0, len(text)-500):])
		}
		if n := strings.Count(text, "\n"); n >= lines || n < maxUnwritten/300 || len(text) > 3*maxUnwritten {
			t.Errorf("%d of %d lines, %d bytes", n, lines, len(text))
		}
	})
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &blocked{release: make(chan struct{})}
		w := newLogWriter(out)
		w.Write([]byte("last words\n"))
		w.Close()
		close(out.release)
		synctest.Wait()
	})
}
