"""An application that needs a module which is not there."""

import a_module_that_nobody_has_installed

application = a_module_that_nobody_has_installed.application
