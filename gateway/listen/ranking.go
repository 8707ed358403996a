package listen

import (
	"container/list"
	"iter"
)

// ranking orders addresses by a count that changes by one at a time, so that the one with most is found at once. The zero
// value is empty.
type ranking struct {
	by   []*list.List // by[n]: the *address that have n, n > 0, in the order in which they came to it
	most int          // nobody has more
}

// rank is where an address is in a ranking. The zero value is nowhere.
type rank struct {
	n  int
	at *list.Element
}

// put moves an address to where it is by its count; 0 is nowhere.
func (r *ranking) put(at *rank, a *address, n int) {
	if at.n > 0 {
		r.by[at.n].Remove(at.at)
	}
	*at = rank{n: n}
	if n > 0 {
		for len(r.by) <= n {
			r.by = append(r.by, list.New())
		}
		at.at = r.by[n].PushBack(a)
		r.most = max(r.most, n)
	}
	for r.most > 0 && r.by[r.most].Len() == 0 {
		r.most--
	}
}

// fromMost yields the addresses, those that have most first.
func (r *ranking) fromMost() iter.Seq[*address] {
	return func(yield func(*address) bool) {
		for n := r.most; n > 0; n-- {
			for e := r.by[n].Front(); e != nil; e = e.Next() {
				if !yield(e.Value.(*address)) {
					return
				}
			}
		}
	}
}
