package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sallyport/audit"
)

const (
	writingTime = 5 * time.Second
	steadyRate  = 2000 // requests a second
)

// measureWriting measures durable records, while trees grow and checkpoints are signed behind them.
func measureWriting(ctx context.Context, p *place) error {
	fmt.Println("writing: durable decisions of a person in 40 groups, with tree and signed checkpoints")
	fmt.Printf("%-10s %12s %10s %10s %12s %14s %12s\n", "writers", "records/s", "mean B", "MB/s", "GB/M req", "records/sync", "disk sync µs")
	for _, writers := range []int{1, 64, 256} {
		if err := measureWriters(ctx, p, writers); err != nil {
			return err
		}
	}
	return measureSteady(ctx, p)
}

func measureWriters(ctx context.Context, p *place, writers int) error {
	a, close, err := p.open(ctx)
	if err != nil {
		return err
	}
	before, bytesBefore := a.Decisions().Records(), logBytes(p)
	began := time.Now()
	if err := write(ctx, p, a, writers, began.Add(writingTime)); err != nil {
		return err
	}
	took := time.Since(began).Seconds()
	records := float64(a.Decisions().Records() - before)
	if err := close(); err != nil {
		return err
	}
	written := float64(logBytes(p) - bytesBefore)
	rate := records / took
	sync, err := diskSync(p.dir, int(written/records)*writers)
	if err != nil {
		return err
	}
	// A request has a decision and an outcome; the outcome is about 500 bytes.
	fmt.Printf("%-10d %12.0f %10.0f %10.1f %12.2f %14.1f %12.0f\n", writers, rate, written/records, written/took/1e6, (written/records+500)/1e3,
		rate*sync.Seconds(), float64(sync.Microseconds()))
	return nil
}

// write has so many writers append one record after another.
func write(ctx context.Context, p *place, a *audit.Audit, writers int, until time.Time) error {
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for w := range writers {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(5, uint64(w)))
			for time.Now().Before(until) {
				if _, err := a.Decisions().Append(ctx, p.decision(ctx, rnd)); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// measureSteady offers a fixed rate, whatever the answers do, and looks at how long they take.
func measureSteady(ctx context.Context, p *place) error {
	a, close, err := p.open(ctx)
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var waits []time.Duration
	var wg sync.WaitGroup
	rnd := rand.New(rand.NewPCG(7, 7))
	began := time.Now()
	for i := 0; time.Since(began) < 2*writingTime; i++ {
		due := began.Add(time.Duration(i) * time.Second / steadyRate)
		time.Sleep(time.Until(due))
		r := p.decision(ctx, rnd)
		wg.Go(func() {
			if _, err := a.Decisions().Append(ctx, r); err != nil {
				return // counted as missing below
			}
			wait := time.Since(due)
			mu.Lock()
			waits = append(waits, wait)
			mu.Unlock()
		})
	}
	wg.Wait()
	if err := close(); err != nil {
		return err
	}
	slices.Sort(waits)
	at := func(q float64) time.Duration { return waits[int(q*float64(len(waits)-1))].Round(10 * time.Microsecond) }
	fmt.Printf("at %d/s: %d records, durable after p50 %v, p99 %v, most %v\n\n", steadyRate, len(waits), at(0.5), at(0.99), at(1))
	return nil
}

// diskSync is the disk's own: the median time of writing so many bytes at the end of a preallocated file and fdatasync.
func diskSync(dir string, bytes int) (time.Duration, error) {
	const rounds = 200
	size := max(4096, (bytes+4095)/4096*4096)
	f, err := os.CreateTemp(dir, "sync-*")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, size)
	for range rounds {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	var times []time.Duration
	for i := range rounds {
		began := time.Now()
		if _, err := f.WriteAt(block, int64(i*size)); err != nil {
			return 0, err
		}
		if err := unix.Fdatasync(int(f.Fd())); err != nil {
			return 0, err
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// logBytes is what the decision log's records take, without what is preallocated beyond them.
func logBytes(p *place) (total int64) {
	for line, err := range lines(p, audit.DecisionLog) {
		if err != nil {
			return total
		}
		total += int64(len(line)) + 1
	}
	return total
}

// dirSize is what a folder takes on the disk.
func dirSize(dir string) (total int64) {
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}
