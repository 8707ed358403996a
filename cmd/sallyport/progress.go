package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// progress tells people at a terminal how far long work is.
type progress struct {
	out   *os.File // nil: nobody is looking
	began time.Time
	next  time.Time
}

func newProgress(out io.Writer) *progress {
	p := &progress{began: time.Now()}
	if f, ok := out.(*os.File); ok && isTerminal(f) {
		p.out = f
	}
	return p
}

// show tells how much of how much is done, at most twice a second.
func (p *progress) show(done, total int64, unit string, records uint64) {
	now := time.Now()
	if p.out == nil || now.Before(p.next) || total <= 0 {
		return
	}
	p.next = now.Add(time.Second / 2)
	fmt.Fprintf(p.out, "\r\033[K%3d %% of %d %s, %d records, %v", done*100/total, total, unit, records, now.Sub(p.began).Round(time.Second))
}

// count tells how many records are done where nobody knows of how many.
func (p *progress) count(records uint64) {
	now := time.Now()
	if p.out == nil || now.Before(p.next) {
		return
	}
	p.next = now.Add(time.Second / 2)
	fmt.Fprintf(p.out, "\r\033[K%d records, %v", records, now.Sub(p.began).Round(time.Second))
}

// close clears the line.
func (p *progress) close() {
	if p.out != nil && !p.next.IsZero() {
		fmt.Fprint(p.out, "\r\033[K")
	}
}
