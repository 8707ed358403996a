package spool

import (
	"io"
	"net"
	"testing"
	"time"
)

const (
	drainBodies = 50
	drainSize   = 10 << 20
)

// BenchmarkDrain is how fast answers are taken from apps whose clients do not read at all.
func BenchmarkDrain(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		benchmarkDrain(b, func() io.ReadCloser { return &endlessZeros{left: drainSize} })
	})
	b.Run("tcp", func(b *testing.B) { benchmarkDrain(b, appConnections(b)) })
}

func benchmarkDrain(b *testing.B, source func() io.ReadCloser) {
	s := onDisk(b, testConfig("/var/tmp"))
	b.SetBytes(drainBodies * drainSize)
	for b.Loop() {
		var readers []*Reader
		for range drainBodies {
			readers = append(readers, s.Response(b.Context(), source()))
		}
		for _, r := range readers {
			for !r.drained() {
				time.Sleep(time.Millisecond)
			}
		}
		for _, r := range readers {
			r.Close()
		}
	}
}

// drained reports whether the app is free.
func (r *Reader) drained() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end != nil
}

type endlessZeros struct{ left int }

func (z *endlessZeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(z.left, len(p))
	z.left -= n
	return n, nil
}

func (*endlessZeros) Close() error { return nil }

// appConnections makes connections to an app that says drainSize bytes on each and hangs up.
func appConnections(b *testing.B) func() io.ReadCloser {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	go func() {
		piece := make([]byte, 256<<10)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for sent := 0; sent < drainSize; sent += len(piece) {
					conn.Write(piece)
				}
			}()
		}
	}()
	return func() io.ReadCloser {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		return conn
	}
}
