package spool

import "sync/atomic"

// budget counts bytes against a limit that may change.
type budget struct{ used atomic.Int64 }

// take reserves n bytes unless that would exceed the limit; used never does, not even for a moment.
func (b *budget) take(n, limit int64) bool {
	for {
		used := b.used.Load()
		if used+n > limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

func (b *budget) give(n int64) {
	if b.used.Add(-n) < 0 {
		panic("BUG: more was given back than taken")
	}
}
