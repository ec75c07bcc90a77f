//! A faithful, scriptable stand-in for Stream Chat's export API.
