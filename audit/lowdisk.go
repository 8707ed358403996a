package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Codes of control records about the disk.
const (
	// CodeDiskLow says that free space fell below a threshold; detail is DiskDetail. CodeDiskOK ends it.
	CodeDiskLow = "disk_low"
	CodeDiskOK  = "disk_ok"
	// CodeDiskFull says that a log could not be written because there was no space left.
	CodeDiskFull = "disk_full"
)

// LowDisk says when free space in the audit directory's file system is remarkable. Nothing is refused because of it: that
// happens when a record cannot be written, and not before.
type LowDisk struct {
	// Warn is the free space below which a control record and a warning say so, once until there is more again.
	// A size such as 20GiB or a share such as 10%; 0 never warns. Default 10%.
	Warn Space `yaml:"warn" default:"10%"`
	// Critical is the free space below which this is said again, as an error, and segments are sealed without pauses.
	// A size or a share; 0 never. Default 3%.
	Critical Space `yaml:"critical" default:"3%"`
}

func (l LowDisk) check() error {
	if l.Warn.percent > 0 && l.Critical.percent > l.Warn.percent || l.Warn.bytes > 0 && l.Critical.bytes > l.Warn.bytes {
		return fmt.Errorf("low_disk: critical is %v, more than warn, %v", l.Critical, l.Warn)
	}
	return nil
}

// Space is an amount of free space: bytes, or a share of the file system. The zero value is none.
type Space struct {
	bytes   uint64
	percent float64
}

var spaceUnits = []struct {
	suffix string
	bytes  uint64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

// UnmarshalText accepts 20GiB, 500MB, 1073741824 and 2.5%.
func (s *Space) UnmarshalText(text []byte) error {
	wrong := fmt.Errorf("%q is no free space such as 20GiB or 5%%", text)
	if share, ok := strings.CutSuffix(string(text), "%"); ok {
		p, err := strconv.ParseFloat(share, 64)
		if err != nil || !(p >= 0 && p < 100) {
			return wrong
		}
		*s = Space{percent: p}
		return nil
	}
	number, unit := string(text), uint64(1)
	for _, u := range spaceUnits {
		if rest, ok := strings.CutSuffix(number, u.suffix); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return wrong
	}
	*s = Space{bytes: n * unit}
	return nil
}

// MarshalText is String.
func (s Space) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// String writes it as UnmarshalText reads it.
func (s Space) String() string {
	if s.percent > 0 {
		return strconv.FormatFloat(s.percent, 'g', -1, 64) + "%"
	}
	for _, u := range spaceUnits[:4] {
		if s.bytes != 0 && s.bytes%u.bytes == 0 {
			return strconv.FormatUint(s.bytes/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatUint(s.bytes, 10)
}

// Expectation is how it is written, for the configuration's errors.
func (Space) Expectation() string { return "free space, such as 20GiB or 5%" }

// of is the space in bytes on a file system of that size.
func (s Space) of(size uint64) uint64 {
	if s.percent > 0 {
		return uint64(float64(size) / 100 * s.percent)
	}
	return s.bytes
}

// spacious is a FileSystem that knows how much room it has.
type spacious interface {
	// Space returns the bytes that this process may still write, and the size of the whole.
	Space() (free, size uint64, err error)
}

// diskSpace returns the free bytes and the size of the directory's file system. Not every FileSystem knows.
func diskSpace(fs FileSystem) (free, size uint64, known bool) {
	s, ok := fs.(spacious)
	if !ok {
		return 0, 0, false
	}
	free, size, err := s.Space()
	return free, size, err == nil
}

// diskLevel is how bad it is.
type diskLevel int32

const (
	diskOK diskLevel = iota
	diskWarn
	diskCritical
)

func (l diskLevel) String() string { return [...]string{"ok", "warn", "critical"}[l] }

// hysteresis is how much more than a threshold must be free before it counts as left: a tenth.
const hysteresis = 10

// level judges free space; before is what was judged last.
func (l LowDisk) level(free, size uint64, before diskLevel) diskLevel {
	below := func(s Space, already bool) bool {
		limit := s.of(size)
		if already {
			limit += limit / hysteresis
		}
		return free < limit
	}
	switch {
	case below(l.Critical, before >= diskCritical):
		return diskCritical
	case below(l.Warn, before >= diskWarn):
		return diskWarn
	}
	return diskOK
}

// DiskDetail is the detail of a disk_low or disk_ok record.
type DiskDetail struct {
	Level string `json:"level"` // "ok", "warn" or "critical"
	Free  uint64 `json:"free"`  // bytes that can still be written
	Size  uint64 `json:"size"`  // bytes of the whole file system
}

// watchDisk says so when free space passes a threshold.
func (a *Audit) watchDisk() {
	h := a.upkeep
	free, size, known := diskSpace(a.fs)
	if !known {
		return
	}
	h.storage.free.Store(free)
	h.storage.size.Store(size)
	before := h.level
	h.level = h.lowDisk.level(free, size, before)
	h.storage.level.Store(int32(h.level))
	if h.level == before {
		return
	}
	r := &Record{Type: TypeControl, Code: CodeDiskLow, Detail: detail(DiskDetail{h.level.String(), free, size})}
	args := []any{"free", free, "size", size}
	switch h.level {
	case diskCritical:
		h.log.Error("the audit log's disk is almost full", args...)
	case diskWarn:
		h.log.Warn("the audit log's disk is filling up", args...)
	case diskOK:
		r.Code = CodeDiskOK
		h.log.Info("the audit log's disk has room again", args...)
	}
	// A log that takes no more posts is unavailable, which says more than this record would.
	_ = a.control.Post(context.Background(), r)
}

// FullDetail is the detail of a disk_full record.
type FullDetail struct {
	Log   string    `json:"log"` // which could not be written
	Since time.Time `json:"since"`
}

// watchFull has the control log record that the decision log found no space, once each time. Whether it can depends on
// the room that the control log's segment still has; beyond that there is the reserve.
func (a *Audit) watchFull() {
	f := a.decisions.failing.Load()
	full := f != nil && errors.Is(f.err, syscall.ENOSPC)
	if full && !a.upkeep.full {
		_ = a.control.Post(context.Background(), diskFullRecord(DecisionLog, f.since))
	}
	a.upkeep.full = full
}

func diskFullRecord(log string, since time.Time) *Record {
	return &Record{Type: TypeControl, Code: CodeDiskFull, Detail: detail(FullDetail{log, since.UTC()})}
}
