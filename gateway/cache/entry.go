package cache

// Entry is one stored answer. It never changes.
type Entry struct{}

// Supersedes reports whether the entry answers all requests that the other one answers.
func (e *Entry) Supersedes(other *Entry) bool { return false }
