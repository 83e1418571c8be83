//! Typed values that layers attach to a call.

use std::{
    any::{Any, TypeId, type_name},
    fmt,
    sync::Arc,
};

/// Values by their type, attached to a call by a layer and read by the layers within it and by the method. Nothing of it
/// travels. Cheap to clone.
#[derive(Clone, Default)]
pub struct Extensions {
    values: Option<Arc<Vec<Entry>>>,
}

#[derive(Clone)]
struct Entry {
    key: TypeId,
    name: &'static str,
    value: Arc<dyn Any + Send + Sync>,
}

impl Extensions {
    /// Attaches `value`, in place of an earlier one of its type.
    pub fn insert<T: Any + Send + Sync>(&mut self, value: T) {
        let entry = Entry { key: TypeId::of::<T>(), name: type_name::<T>(), value: Arc::new(value) };
        let values = Arc::make_mut(self.values.get_or_insert_default());
        match values.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => *known = entry,
            None => values.push(entry),
        }
    }

    /// The value of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<&T> {
        let entry = self.values.as_ref()?.iter().find(|entry| entry.key == TypeId::of::<T>())?;
        entry.value.downcast_ref()
    }

    /// Removes all values; a call without any pays nothing.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.values.is_some() {
            self.values = None;
        }
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.iter().flat_map(|values| values.iter()).map(|entry| entry.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_type_and_a_clone_keeps_its_own() {
        let mut extensions = Extensions::default();
        extensions.insert(7u32);
        let before = extensions.clone();
        extensions.insert(8u32);
        extensions.insert("text".to_owned());
        assert_eq!((extensions.get::<u32>(), extensions.get::<String>()), (Some(&8), Some(&"text".to_owned())));
        assert_eq!((before.get::<u32>(), before.get::<String>()), (Some(&7), None));
        extensions.clear();
        assert_eq!(extensions.get::<u32>(), None);
    }
}
