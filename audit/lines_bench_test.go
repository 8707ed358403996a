package audit

import (
	"context"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkReading measures how fast records of a person in 40 groups are read from the page cache on one core: as lines,
// decoded, and as lines of sealed segments.
func BenchmarkReading(b *testing.B) {
	const n = 200_000
	dir := b.TempDir()
	a, err := Open(Config{Dir: dir, Seal: true}, quiet(Options{segmentSize: defaultSegmentSize}))
	if err != nil {
		b.Fatal(err)
	}
	post := personIn40Groups()
	for i := range n {
		if err := a.Decisions().Post(b.Context(), post); err != nil {
			b.Fatal(err)
		}
		if i%4096 == 0 {
			mustAppend(b, a.Decisions(), "/")
		}
	}
	mustAppend(b, a.Decisions(), "/")
	total := int(a.Decisions().Records())
	r := openReader(b, dir)
	lines := func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		bytes, began := 0, cpuTime()
		for b.Loop() {
			seq := 0
			for line, err := range r.Lines(context.Background(), 0) {
				if err != nil || line.Seq != uint64(seq) {
					b.Fatal(line.Seq, err)
				}
				seq++
				bytes += len(line.Raw)
			}
			if seq != total {
				b.Fatalf("%d lines of %d", seq, total)
			}
		}
		b.ReportMetric(float64(total*b.N)/b.Elapsed().Seconds(), "records/s")
		b.ReportMetric(float64(total*b.N)/(cpuTime()-began).Seconds(), "records/cpu-s")
		b.ReportMetric(float64(bytes)/float64(total*b.N), "B/record")
	}
	b.Run("lines", lines)
	b.Run("decoded", func(b *testing.B) {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		for b.Loop() {
			for _, err := range r.All(context.Background(), Filter{}) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(total*b.N)/b.Elapsed().Seconds(), "records/s")
	})
	a.upkeep.asSigned = func(string) uint64 { return 1 << 40 }
	a.upkeep.slower = func(context.Context, time.Duration) error { return nil }
	began := time.Now()
	a.housekeep(b.Context())
	s := a.Storage()
	b.Logf("sealed %d segments, %d MB to %d MB, in %v", s.Sealed, s.SealedFrom>>20, s.SealedTo>>20, time.Since(began))
	b.Run("sealed lines", lines)
	if err := a.Close(); err != nil {
		b.Error(err)
	}
}

// cpuTime is how long the processor worked for us, which other work on the machine does not change.
func cpuTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
