package policy

import (
	"crypto/sha256"
	"reflect"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// prepared is what of a Subject need not be worked out again for each of its requests.
type prepared struct {
	of     Subject           // what it was made of, itself not prepared
	json   []byte            // as AppendJSON writes it
	groups [sha256.Size]byte // stands for the groups in a projection
	small  int               // the size of its small documents
	term   func() *ast.Term  // as the evaluator reads it, made when it is first asked for
}

// Prepared is s made ready to be part of many inputs: bounded as Bound would, its JSON written and its groups digested
// once. It may be shared between goroutines, and nothing it points to may be changed; a subject that differs, be it by a
// minute of age, is another one and is prepared anew. A subject that cannot be bounded comes back as it is, and Bound
// says of each input what is wrong with it.
func (s Subject) Prepared() Subject {
	s.prepared = nil
	bounded := Input{Subject: s}
	if bounded.Bound() != nil {
		return s
	}
	p := &prepared{of: bounded.Subject}
	p.json = p.of.appendJSON(nil)
	p.groups = sha256.Sum256(appendTexts(nil, p.of.Groups))
	p.small = len(p.of.appendSmall(nil))
	p.term = sync.OnceValue(p.of.newTerm)
	s = p.of
	s.prepared = p
	return s
}

// ready is what was prepared for s, or nil. Where somebody changed a field of a prepared subject nothing of it counts: what
// is recorded and what is evaluated must never be two things.
func (s *Subject) ready() *prepared {
	p := s.prepared
	if p == nil || !s.is(&p.of) {
		return nil
	}
	return p
}

// is reports whether two subjects consist of the same values, lists and documents, the same ones in memory.
func (s *Subject) is(o *Subject) bool {
	return s.Type == o.Type && s.ID == o.ID && s.Email == o.Email && s.EmailVerified == o.EmailVerified &&
		s.GroupsIncomplete == o.GroupsIncomplete && s.Authn == o.Authn && s.Session == o.Session && s.Token == o.Token && s.Device == o.Device &&
		s.Cert == o.Cert && s.CertProblem == o.CertProblem && sameList(s.Groups, o.Groups) && sameList(s.Grants, o.Grants) &&
		reflect.ValueOf(s.Claims).Pointer() == reflect.ValueOf(o.Claims).Pointer()
}

func sameList[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}
