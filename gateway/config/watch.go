package config

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	settle  = 250 * time.Millisecond // editors and copies touch a file several times; the last touch counts
	atLeast = 2 * time.Second        // a folder that never rests must not hide a change
	recheck = 30 * time.Second       // network file systems and exhausted inotify limits report nothing
	maxHops = 40                     // symbolic links followed in one path, as the kernel does
)

// Watch notices changes of files: those that appear, disappear, are written, are replaced by rename, or are reached
// through a symbolic link, at any place of their path, that now leads elsewhere (which is how Kubernetes updates a
// volume). Run is for one goroutine; Follow and Close may be called from any.
type Watch struct {
	notify *fsnotify.Watcher

	mu    sync.Mutex
	files []string
	seen  map[string]string // what each of them was at the last look
}

// NewWatch begins to watch files: absolute paths, or glob patterns whose matches count. What changes from now on is
// noticed when Run runs, so a file watched before it is read is never out of date for long.
func NewWatch(files []string) (*Watch, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watching files: %w", err)
	}
	w := &Watch{notify: notify, seen: map[string]string{}}
	w.Follow(files)
	return w, nil
}

// Run calls changed after changes, until ctx ends. What the operating system reports as many events is one call; what
// happens to a file during the call brings another. A changed that reads a new configuration calls Follow before it
// returns.
func (w *Watch) Run(ctx context.Context, changed func()) {
	for w.wait(ctx) {
		if w.differs() {
			changed()
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() error { return w.notify.Close() }

// Follow watches these files from now on. What was seen of those watched before is kept, so that nothing is missed.
func (w *Watch) Follow(files []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.seen
	w.files = files
	w.watchFoldersLocked()
	w.seen = w.lookLocked()
	for file := range w.seen {
		if known, ok := before[file]; ok {
			w.seen[file] = known
		}
	}
}

// differs takes a new look and compares it with the last one.
func (w *Watch) differs() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.seen
	w.watchFoldersLocked()
	w.seen = w.lookLocked()
	return !maps.Equal(before, w.seen)
}

// wait returns after events have come and settled, or after the time for a look without any; false when ctx ends.
func (w *Watch) wait(ctx context.Context) bool {
	quiet := time.NewTimer(recheck)
	defer quiet.Stop()
	var latest <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return false
		case <-quiet.C:
			return true
		case <-latest:
			return true
		case <-w.notify.Events:
		case <-w.notify.Errors: // a queue that overflowed: something happened
		}
		quiet.Reset(settle)
		if latest == nil {
			latest = time.After(atLeast)
		}
	}
}

// lookLocked stats every file, and every match of every pattern.
func (w *Watch) lookLocked() map[string]string {
	seen := map[string]string{}
	for _, file := range w.files {
		var all strings.Builder
		for _, path := range expand(file) {
			fmt.Fprintln(&all, path, stamp(path))
		}
		seen[file] = all.String()
	}
	return seen
}

// expand returns the matches of a pattern. A path without pattern stands for itself, there or not.
func expand(file string) []string {
	if !isPattern(file) {
		return []string{file}
	}
	matches, err := filepath.Glob(file)
	if err != nil {
		return []string{file}
	}
	return matches
}

func isPattern(file string) bool { return strings.ContainsAny(file, `*?[\`) }

// stamp changes whenever the content behind a path may have changed: other file, other size, other times.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "absent"
	}
	s := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(s.Dev, s.Ino, s.Size, s.Mtim, s.Ctim)
}

// watchFoldersLocked watches every folder in which a change could lead one of the files to other content. A watch on a file
// would end with the first rename. Adding a folder again is free; one that cannot be watched is looked at now and then.
func (w *Watch) watchFoldersLocked() {
	wanted := map[string]bool{}
	for _, file := range w.files {
		addFolders(wanted, fixedPart(file), 0)
		for _, path := range expand(file) {
			addFolders(wanted, path, 0)
		}
	}
	for _, old := range w.notify.WatchList() {
		if !wanted[old] {
			w.notify.Remove(old)
		}
	}
	for folder := range wanted {
		w.notify.Add(folder)
	}
}

// fixedPart cuts a pattern before its first element with a wildcard, and leaves that element for its folder.
func fixedPart(file string) string {
	for isPattern(filepath.Dir(file)) {
		file = filepath.Dir(file)
	}
	return file
}

// addFolders adds the folder of the file, and of every symbolic link on the way to it. Where something on the way is
// missing, the folder in which it would appear.
func addFolders(wanted map[string]bool, file string, hops int) {
	if hops > maxHops {
		return
	}
	at := "/"
	rest := strings.Split(strings.Trim(filepath.Clean(file), "/"), "/")
	for i, name := range rest {
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			wanted[at] = true
			return
		case info.Mode()&fs.ModeSymlink != 0:
			wanted[at] = true
			target, err := os.Readlink(next)
			if err != nil {
				return
			}
			addFolders(wanted, filepath.Join(append([]string{absolute(at, target)}, rest[i+1:]...)...), hops+1)
			return
		case i == len(rest)-1:
			wanted[at] = true
		}
		at = next
	}
}
