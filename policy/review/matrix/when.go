package matrix

import "sallyport/policy"

// Always reports whether no circumstance counts.
func (w *When) Always() bool {
	return w.Hours == nil && w.At == nil && w.Networks == nil && w.MFA == nil && w.ACR == nil && w.Age == nil && w.Other == nil
}

// when says what circumstances a box has.
func (s *survey) when(b box) When {
	var w When
	for i := firstCircumstance; i < len(s.all); i++ {
		a := &s.all[i]
		if b[i].count() == len(a.values) {
			continue
		}
		switch a.name {
		case timeName:
			w.Hours, w.At = s.week.hours(b[i]), s.week.moments(b[i])
		case networkName:
			w.Networks = s.labels(i, b[i])
		case mfaName:
			w.MFA = new(b[i].has(1))
		case acrName:
			w.ACR = s.labels(i, b[i])
		case ageName:
			w.Age = s.agesOf(b[i])
		default:
			if w.Other == nil {
				w.Other = make(map[string][]string)
			}
			w.Other[a.name] = s.labels(i, b[i])
		}
	}
	return w
}

func (s *survey) agesOf(chosen set) []Ages {
	var list []Ages
	for i, from := range s.ages {
		if !chosen.has(i) {
			continue
		}
		next := Ages{From: from}
		if i+1 < len(s.ages) {
			next.To = s.ages[i+1]
		}
		if n := len(list); n > 0 && list[n-1].To == from {
			list[n-1].To = next.To
			continue
		}
		list = append(list, next)
	}
	return list
}

// usually reports whether a box holds the way in which a person usually signs in. Strangers do not.
func (s *survey) usually(who int, b box) bool {
	p := &s.people[who]
	if p.subject.Type == policy.TypeAnonymous {
		return true
	}
	for i := firstCircumstance; i < len(s.all); i++ {
		if usual := s.all[i].usual; usual != nil && !b[i].has(usual(p)) {
			return false
		}
	}
	return true
}
