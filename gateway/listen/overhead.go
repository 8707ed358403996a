package listen

import (
	"sync"
	"time"
)

const (
	// meanwhile is how many times Connections.Unasked a stranger may send in a minute, while requests are open, that
	// reaches nobody. A body that waits to be read, 1 MiB at the most, is a small part of it.
	meanwhile = 4
	// headBytes is what a request that arrives while others are open makes up for: its head, most of the time.
	headBytes = 8 << 10
	// wrapping is what comes around a piece of a body that is read at once: a TLS record, the head of a frame.
	wrapping = 64
)

// overhead counts the bytes of a connection that were read and reached nobody, in each minute.
type overhead struct {
	mu    sync.Mutex
	bytes int64
	since time.Time // the minute's beginning
}

// read counts what was read and returns the minute's bytes.
func (o *overhead) read(n int64, now time.Time) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.since) >= time.Minute {
		o.bytes, o.since = 0, now
	}
	o.bytes += n
	return o.bytes
}

// deliver takes off what reached somebody, and a part for the frames and records that it came in.
func (o *overhead) deliver(n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.bytes = max(0, o.bytes-n-n/4-wrapping)
}
