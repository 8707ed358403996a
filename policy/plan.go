package policy

import "sync/atomic"

// plan is what is known of one app's dependencies. An early decision on the app finds it out.
type plan struct {
	own    bool
	result atomic.Pointer[planResult]
}

type planResult struct {
	fields []field
	err    error // why they cannot be told
	forget error // why answers that depend on them are not remembered
}
