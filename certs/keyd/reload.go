package keyd

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tend changes keys as their schedule says, and reads the configuration again on SIGHUP, until the returned function is
// called, which waits for the end of it.
func (s *server) tend(ctx context.Context, path string) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var work sync.WaitGroup
	work.Go(func() { s.custody.run(ctx) })
	work.Go(func() {
		defer signal.Stop(hangup)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				s.reload(path)
			}
		}
	})
	return func() {
		cancel()
		work.Wait()
	}
}

// reloaded is how the last reload went.
type reloaded struct {
	n   uint64
	at  time.Time
	err error
}

// reload reads the configuration again, and the keys. What it cannot use changes nothing.
func (s *server) reload(path string) {
	err := s.custody.reload(path)
	was := s.reloads.Load()
	next := &reloaded{at: time.Now(), err: err}
	if was != nil {
		next.n = was.n
	}
	next.n++
	s.reloads.Store(next)
	if err != nil {
		s.log.Error("the configuration was not reloaded; the running one stays", "error", err)
		return
	}
	s.log.Info("the configuration was reloaded", "keys", len(s.keys.Load().keys))
}

// reload puts a configuration into effect: all of it or nothing. Keys that go on do so with their generations, logs with
// what was signed of them, and requests that are under way with the keys that they found.
func (s *slots) reload(path string) error {
	c, err := LoadConfig(path)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := needsRestart(s.config, c); err != nil {
		return err
	}
	next, err := openSlots(c, s.stores, s.state, s.now, s)
	if err != nil {
		return err
	}
	s.config, s.list = next.config, next.list
	s.renewLocked()
	return nil
}

// needsRestart refuses, by name, changes of settings that only a start reads.
func needsRestart(old, next *Config) error {
	var names []string
	a, b := reflect.ValueOf(*old), reflect.ValueOf(*next)
	for i := range a.NumField() {
		name, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
		if !a.Type().Field(i).IsExported() {
			continue // nothing that the file says
		}
		if name != "keys" && name != "assertion" && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			names = append(names, name)
		}
	}
	if slices.ContainsFunc(next.Keys, KeyConfig.generates) && !slices.ContainsFunc(old.Keys, KeyConfig.generates) {
		names = append(names, "managed and rotate, which nothing had before: the key folder is closed to writing,") // see territory
	}
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return fmt.Errorf("%s cannot change in a running keyd: restart it, or put the old value back", strings.Join(names, ", "))
}
