package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	windowPeriod = 10 * time.Second
	// windowRows bounds what strangers can make us remember: a window has so many rows, and one count for the rest.
	windowRows = 4096
	// windowRecordRows is how many rows go into one record: with names of 64 bytes, each of them escaped to six, they
	// stay below MaxRecord.
	windowRecordRows = 64
	// windowNameLen bounds reason and app, which are names of ours; longer ones are cut.
	windowNameLen = 64
)

// Window counts refusals that have no record each, by reason, app and network (/24 for IPv4, /48 for IPv6), and posts
// the counts as records of type window every 10 s: to be called from several goroutines, never blocking on the disk.
type Window struct {
	log *Log

	mu    sync.Mutex
	since time.Time // of the first count
	rows  map[windowRow]uint64
	other uint64
}

// windowRow is what is counted.
type windowRow struct {
	reason, app string
	network     netip.Prefix
}

// WindowDetail is the detail of a window record. A window with many rows is spread over several records of the same
// From and To.
type WindowDetail struct {
	From  time.Time     `json:"from"`
	To    time.Time     `json:"to"`
	Rows  []WindowCount `json:"rows"`
	Other uint64        `json:"other"` // what did not fit into 4,096 rows; in the window's last record
}

// WindowCount is one row of a window.
type WindowCount struct {
	Reason  string       `json:"reason"`
	App     string       `json:"app,omitempty"`    // empty where none was known yet
	Network netip.Prefix `json:"network,omitzero"` // of the clients
	Count   uint64       `json:"count"`
}

// NewWindow returns a Window that posts to log once Run runs.
func NewWindow(log *Log) *Window {
	return &Window{log: log, rows: make(map[windowRow]uint64)}
}

// Count counts one refusal of a client at addr.
func (w *Window) Count(reason, app string, addr netip.Addr) {
	row := windowRow{clip(reason), clip(app), network(addr)}
	now := w.log.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		w.since = now
	}
	w.addLocked(row, 1)
}

// Run posts a window every 10 s, if anything was counted, and a last one when ctx ends. The error of that last one is
// returned; earlier ones that the log had no room for are counted into the next window.
func (w *Window) Run(ctx context.Context) error {
	ticker := time.NewTicker(windowPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			// What could not be posted is back in the window; the log itself reports that it is unavailable.
			_ = w.post(ctx)
		case <-ctx.Done():
			return w.post(ctx)
		}
	}
}

// post hands the window to the log. What the log does not take stays.
func (w *Window) post(ctx context.Context) error {
	since, rows, other := w.take()
	if len(rows) == 0 && other == 0 {
		return nil
	}
	to := w.log.now()
	for {
		n := min(len(rows), windowRecordRows)
		part := WindowDetail{From: since.UTC(), To: to.UTC(), Rows: rows[:n]}
		if n == len(rows) {
			part.Other = other
		}
		if err := w.postPart(ctx, part); err != nil {
			w.giveBack(since, rows, other)
			return err
		}
		if rows = rows[n:]; len(rows) == 0 {
			return nil
		}
	}
}

func (w *Window) postPart(ctx context.Context, part WindowDetail) error {
	b, err := json.Marshal(part)
	if err != nil {
		return err
	}
	return w.log.Post(ctx, &Record{Type: TypeWindow, Effect: Reject, Detail: b})
}

// take empties the window; its rows come in a fixed order.
func (w *Window) take() (since time.Time, rows []WindowCount, other uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for row, count := range w.rows {
		rows = append(rows, WindowCount{row.reason, row.app, row.network, count})
	}
	since, other = w.since, w.other
	clear(w.rows)
	w.since, w.other = time.Time{}, 0
	slices.SortFunc(rows, func(a, b WindowCount) int {
		return cmp.Or(cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.App, b.App), a.Network.Compare(b.Network))
	})
	return since, rows, other
}

func (w *Window) giveBack(since time.Time, rows []WindowCount, other uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since = since
	w.other += other
	for _, r := range rows {
		w.addLocked(windowRow{r.Reason, r.App, r.Network}, r.Count)
	}
}

func (w *Window) addLocked(row windowRow, count uint64) {
	if _, known := w.rows[row]; !known && len(w.rows) == windowRows {
		w.other += count
		return
	}
	w.rows[row] += count
}

// network is the part of an address that a window tells apart; the zero prefix for no address.
func network(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 48
	if addr.Is4() {
		bits = 24
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

func clip(name string) string { return name[:min(len(name), windowNameLen)] }
