package upstream

// view is the list of endpoints at one time. It is immutable; what changes is in the endpoints' states.
type view struct {
	all       []*endpoint // in configuration order
	primaries []*endpoint
	backups   []*endpoint
	byID      map[string]*endpoint
}

func newView(all []*endpoint) *view {
	v := &view{all: all, byID: make(map[string]*endpoint, len(all))}
	for _, e := range all {
		v.byID[e.id] = e
		if e.backup {
			v.backups = append(v.backups, e)
		} else {
			v.primaries = append(v.primaries, e)
		}
	}
	prepare(v.primaries)
	prepare(v.backups)
	return v
}

// prepare compares the weights within a group and spreads the first turns of its members over a round.
func prepare(group []*endpoint) {
	total := 0.0
	for _, e := range group {
		total += e.weight
	}
	for i, e := range group {
		e.share = e.weight * float64(len(group)) / total
		e.next.Store(int64(turnLength / e.weight * (float64(i) + 0.5) / float64(len(group))))
	}
}
