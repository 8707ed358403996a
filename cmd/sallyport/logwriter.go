package main

import (
	"io"
	"sync"
	"time"
)

const (
	// maxUnwritten bounds the log lines that wait for a slow reader of standard error.
	maxUnwritten = 1 << 20
	// lastWords is how long the end of the program waits for them.
	lastWords = time.Second
)

// logWriter hands log lines to a goroutine, so that whoever reads them slowly, or not at all, holds up no request: a
// handler of package slog writes with its lock held. What does not fit is lost and counted; the audit log is the one that
// loses nothing.
type logWriter struct {
	out  io.Writer
	lost func(lines int) // says so in the log, once there is room again

	wake chan struct{} // holds one when there may be something to write
	done chan struct{} // closed when all is written after close

	mu      sync.Mutex
	waiting []byte
	dropped int // lines
	closed  bool
}

func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{out: out, lost: func(int) {}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w
}

// Write takes one line. It never fails and never waits.
func (w *logWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	if w.closed || len(w.waiting)+len(line) > maxUnwritten {
		w.dropped++
	} else {
		w.waiting = append(w.waiting, line...)
	}
	w.mu.Unlock()
	w.signal()
	return len(line), nil
}

// Close writes what waits, as far as that is possible in a second.
func (w *logWriter) Close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.signal()
	select {
	case <-w.done:
	case <-time.After(lastWords):
	}
}

func (w *logWriter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *logWriter) run() {
	defer close(w.done)
	var writing []byte
	for range w.wake {
		for {
			w.mu.Lock()
			writing, w.waiting = w.waiting, writing[:0]
			dropped, closed := w.dropped, w.closed
			w.dropped = 0
			w.mu.Unlock()
			if len(writing) > 0 {
				_, _ = w.out.Write(writing) // there is nobody left to tell
			}
			if dropped > 0 && !closed {
				w.lost(dropped) // a line of its own, which comes back here
				continue
			}
			if closed {
				return
			}
			break
		}
	}
}
