package session

import "sync/atomic"

// derived is room for one value. It belongs to one version of a session and is shared by its snapshots, which differ in
// Seen alone.
type derived struct{ value atomic.Pointer[any] }

// Derived is what fn makes of s, made once for each version of a session in use and kept with it: what a request says
// about a person, escaped, encoded and digested, need not be worked out again by the next one. It goes with the session
// when that is dropped or evicted, so it should be of the session's own order of size.
//
// fn reads ID, Identity, Created and Version only, since a later snapshot of the same version returns the same value. It
// may run more than once at the same time; one result is kept. The value is shared between goroutines. There is room for
// one type of value: a second one would displace the first each time.
func Derived[T any](s *Session, fn func(*Session) *T) *T {
	if s.derived == nil { // made by hand, or not in use
		return fn(s)
	}
	had := s.derived.value.Load()
	if had != nil {
		if v, ok := (*had).(*T); ok {
			return v
		}
	}
	made := fn(s)
	var value any = made
	if !s.derived.value.CompareAndSwap(had, &value) {
		if v, ok := (*s.derived.value.Load()).(*T); ok {
			return v
		}
	}
	return made
}
